use super::*;
use crate::exec::{Choice, Device};
use crate::graph::Graph;
use crate::model::Variables;
use crate::rng;
use crate::run::Session;
use crate::shape::Type;

#[test]
fn quantiles_are_those_of_the_distribution() {
    let n = 1000;
    let of = |alpha: f64| quantiles(alpha, n);
    for k in 0..n {
        let u = (k as f64 + 0.5) / n as f64;
        // Uniform; the arcsine law; F(x) = 3 x² − 2 x³.
        assert!((f64::from(of(1.0)[k]) - u).abs() < 1e-6);
        if k % 100 == 7 {
            let arcsine = (0.5 * std::f64::consts::PI * u).sin().powi(2);
            assert!((f64::from(of(0.5)[k]) - arcsine).abs() < 1e-6);
            let x = f64::from(of(2.0)[k]);
            assert!((3.0 * x * x - 2.0 * x * x * x - u).abs() < 1e-6);
        }
        if k > 20 {
            break;
        }
    }
    for alpha in [0.05, 0.2, 0.4, 1.0, 3.5, 16.0] {
        let all: Vec<f64> = of(alpha).into_iter().map(f64::from).collect();
        assert!(
            all.is_sorted() && all[0] >= 0.0 && all[n - 1] <= 1.0,
            "{alpha}"
        );
        let variance = all.iter().map(|x| (x - 0.5).powi(2)).sum::<f64>() / n as f64;
        let wanted = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!(
            (variance / wanted - 1.0).abs() < 0.01,
            "{alpha}: {variance}, not {wanted}"
        );
    }
}

const N: usize = 7;

/// What becomes of floats `[N, 2, 3]` and of classes `[N]` of 5 in a step, and the shares.
fn mixed(alpha: f64, step: u32, device: &Device) -> [Vec<f32>; 3] {
    let mut graph = Graph::new();
    let x = graph
        .input::<f32>("x", Type::f32("x", &[N, 2, 3]).unwrap())
        .unwrap();
    let t = graph
        .input::<u32>("t", Type::u32("t", &[N]).unwrap())
        .unwrap();
    let keys = Type::u32("keys", &[rng::KEYS]).unwrap();
    let keys = graph.input::<u32>("keys", keys).unwrap();
    let now = graph
        .input::<u32>("step", Type::u32("step", &[2]).unwrap())
        .unwrap();
    let program = graph.begin("train");
    let pass = Pass::Training {
        keys: keys.value(),
        step: now.value(),
    };
    let (mut variables, mut streams) = (Variables::default(), 0);
    let mut scope = Scope::new(&mut graph, &mut variables, pass, &mut streams);
    let mixup = Mixup::drawn(&mut scope, alpha, N).unwrap().unwrap();
    let floats = mixup.floats(&mut scope, x.value()).unwrap();
    let classes = mixup.classes(&mut scope, t.value(), 5).unwrap();
    let made = [
        ("floats", floats),
        ("classes", classes),
        ("share", mixup.share),
    ];
    let made = made.map(|(name, value)| graph.output::<f32>(name, value).unwrap());
    let mut session = Session::new(&graph, device).unwrap();
    session.write(x, &floats_of()).unwrap();
    session.write(t, &CLASSES).unwrap();
    session.write(keys, &rng::keys(5, 0)).unwrap();
    session.write(now, &[step, step]).unwrap();
    for variable in variables.all() {
        let handle = graph.handle::<f32>(variable.value).unwrap();
        session.write(handle, &variable.draw(0, 0, 0)).unwrap();
    }
    session.run(program, 1).unwrap();
    made.map(|handle| session.read(handle).unwrap().to_vec())
}

const CLASSES: [u32; N] = [3, 0, 1, 1, 4, 2, 0];

fn floats_of() -> Vec<f32> {
    (0..N * 6).map(|i| (i * 29 % 31) as f32 - 15.0).collect()
}

#[test]
fn an_example_is_mixed_with_the_next_and_so_is_its_class() {
    let cpu = Device::open(Choice::Cpu).unwrap();
    let gpu = Device::open(Choice::Gpu).ok();
    let mut all = Vec::new();
    for step in 0..40 {
        let found = mixed(0.7, step, &cpu);
        let [floats, classes, share] = &found;
        let x = floats_of();
        for n in 0..N {
            let (next, share) = ((n + 1) % N, share[n]);
            for k in 0..6 {
                let wanted = share * x[n * 6 + k] + (1.0 - share) * x[next * 6 + k];
                assert!((floats[n * 6 + k] - wanted).abs() < 1e-5);
            }
            for class in 0..5 {
                let is = |n: usize| f32::from(u8::from(CLASSES[n] as usize == class));
                let wanted = share * is(n) + (1.0 - share) * is(next);
                assert!((classes[n * 5 + class] - wanted).abs() < 1e-6);
            }
            all.push(share);
        }
        if let (Some(gpu), true) = (&gpu, step < 5) {
            let there = mixed(0.7, step, gpu);
            // Shares are looked up: the same bits.
            assert_eq!(there[2], *share);
            for (a, b) in there[0].iter().zip(floats) {
                assert!((a - b).abs() < 1e-5);
            }
        }
    }
    let draws = all.len() as f32;
    let mean = all.iter().sum::<f32>() / draws;
    let variance = all.iter().map(|x| (x - 0.5).powi(2)).sum::<f32>() / draws;
    // Standard errors 0.019 and 0.005.
    assert!((mean - 0.5).abs() < 0.06, "{mean}");
    assert!((variance - 1.0 / 9.6).abs() < 0.02, "{variance}");
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    for alpha in [0.0, -1.0, f64::NAN, 17.0] {
        let error = check(alpha).unwrap_err().to_string();
        assert!(error.contains("alpha of mixup"), "{error}");
    }
}
