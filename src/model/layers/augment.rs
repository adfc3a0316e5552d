//! Layers that change pictures while training, anew in each step, and leave them as they are in an evaluation.

use super::*;
use crate::model::Pass;
use crate::ops::augment::{Augment as Moved, check};
use crate::ops::distort::{Distortion, distort};
use crate::ops::pointwise::pointwise;
use crate::ops::reduction::{Kind, Reduction};
use crate::rng::streams;

/// Images `[N, C, H, W]` moved by up to `crop` pixels along each axis, zero where nothing is, and half of
/// them mirrored with `flip`: while training, anew in each step. An evaluation sees them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Half of the images are mirrored, left to right.
    pub flip: bool,
    /// The largest shift: an image is padded by so many pixels and cropped to its size again.
    pub crop: usize,
}

layer!(Augment, "augment", |layer, scope, inputs| {
    let [x] = arity("augment", inputs)?;
    let shape = &scope.ty(x)?.shape;
    let [_, _, h, w] = shape.axes::<4>("augment", "[N, C, H, W] images")?;
    // An evaluation does not move them, and is to be refused as well.
    check(layer.crop, [h, w])?;
    let number = scope.stream()?;
    match scope.pass() {
        Pass::Training { keys, step } => {
            let moved = Moved {
                flip: layer.flip,
                crop: layer.crop,
                layer: number,
                back: false,
            };
            scope.op1(Arc::new(moved), &[x, keys, step])
        }
        Pass::Evaluation => Ok(x),
    }
});

/// Images `[N, C, H, W]` turned, stretched, sheared, shifted and elastically distorted: while training, anew in each
/// step, within the limits of a [`Distortion`] (Simard et al. 2003; [`ops::distort`](mod@crate::ops::distort)). An
/// evaluation sees them as they are.
///
/// ```
/// use wgrad::model::{Model, layers::*};
/// use wgrad::ops::distort::Distortion;
///
/// let digits = Model::sequential([1, 28, 28]).then(Distort(Distortion::elastic()));
/// let digits = digits.then(Conv2d::new(20, 5)).then(Relu).then(Flatten).then(Dense::new(10)).build()?;
/// # Ok::<(), wgrad::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distort(pub Distortion);

layer!(Distort, "distort", |layer, scope, inputs| {
    let [x] = arity("distort", inputs)?;
    layer.0.check()?;
    let wanted = "[N, C, H, W] images";
    scope.ty(x)?.shape.axes::<4>("distort", wanted)?;
    let stream = streams::DISTORTIONS + scope.stream()?;
    match scope.pass() {
        Pass::Training { keys, step } => distort(scope, layer.0, stream, x, [keys, step]),
        Pass::Evaluation => Ok(x),
    }
});

/// Draws of a layer, beside each other in its streams.
const DRAWS: u32 = 4;

/// Expressions of one uniform number or several for each example, as values `[N, 1, …]` that broadcast to `axes` axes.
/// `None` in an evaluation.
fn drawn(
    scope: &mut Scope<'_>,
    x: Value,
    expressions: impl FnOnce([Expr; DRAWS as usize]) -> Vec<Expr>,
) -> Result<Option<Vec<Value>>> {
    let first = streams::PICTURES + DRAWS * scope.stream()?;
    let Pass::Training { keys, step } = scope.pass() else {
        return Ok(None);
    };
    let mut extents = vec![1; scope.extents(x)?.len()];
    extents[0] = scope.extents(x)?[0];
    let draws = std::array::from_fn(|k| Expr::uniform(first + k as u32));
    let op = Pointwise::new(&expressions(draws)).with_extents(&extents);
    scope.op(Arc::new(op), &[keys, step]).map(Some)
}

/// A share from 0 to 1.
fn share(layer: &str, name: &str, value: f64) -> Result<()> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::setting(
            format!("{name} of {layer}"),
            value,
            "0 to 1",
        )),
    }
}

/// Images `[N, C, H, W]` with a square of zeros of `size` × `size` pixels about a place that is drawn for each, cut off
/// at the edges (DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout"): while
/// training, anew in each step. Behind a standardisation a zero is the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutout {
    /// Pixels of the square's side.
    pub size: usize,
    /// With which probability an image has one; 1 if not given.
    #[serde(default = "always")]
    pub p: f64,
}

fn always() -> f64 {
    1.0
}

impl Cutout {
    /// A square of `size` × `size` pixels in every image.
    pub fn new(size: usize) -> Self {
        Self { size, p: 1.0 }
    }
}

layer!(Cutout, "cutout", |layer, scope, inputs| {
    let [x] = arity("cutout", inputs)?;
    share("cutout", "p", layer.p)?;
    let [_, _, h, w] = scope
        .ty(x)?
        .shape
        .axes::<4>("cutout", "[N, C, H, W] images")?;
    if !(1..=1 << 15).contains(&layer.size) {
        return Err(Error::setting(
            "size of cutout",
            layer.size,
            "1 to 32,768 pixels",
        ));
    }
    // The first row and column of the square; of an image without one, those below and right of all.
    let half = (layer.size / 2) as f64;
    let Some(first) = drawn(scope, x, |[u, v, chosen, _]| {
        let chosen = chosen.lt(layer.p);
        let at = |u: Expr, size: usize| {
            let place = (u * size as f64).floor() - half;
            chosen.select(place, size as f64)
        };
        vec![at(u, h), at(v, w)]
    })?
    else {
        return Ok(x);
    };
    let counted = |n: usize| (0..n).map(|k| k as f32).collect();
    let rows = scope.constant(&[h, 1], counted(h))?;
    let columns = scope.constant(&[w], counted(w))?;
    let size = layer.size as f64;
    pointwise(
        scope,
        [x, first[0], first[1], rows, columns],
        |[x, top, left, r, c]| {
            let within = |place: &Expr, first: &Expr| place.ge(first).and(&place.lt(first + size));
            within(&r, &top).and(&within(&c, &left)).select(0.0, x)
        },
    )
});

/// Images `[N, C, H, W]` of numbers from 0 to 1, lighter or darker, of more or less contrast, in stronger or paler
/// colours: while training, anew in each step. In this order (torchvision's `ColorJitter` draws the order), each with
/// a factor f that is drawn uniformly from 1 − s to 1 + s for each image, and each cut to 0 and 1:
///
/// - brightness: f x;
/// - contrast: f x + (1 − f) m, where m is the mean of the image's luma;
/// - saturation: f x + (1 − f) l, where l is the pixel's luma, 0.299 R + 0.587 G + 0.114 B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColourJitter {
    /// s of the brightness, from 0 to 1.
    pub brightness: f64,
    /// s of the contrast, from 0 to 1.
    pub contrast: f64,
    /// s of the saturation, from 0 to 1; for images of three channels.
    pub saturation: f64,
}

layer!(ColourJitter, "colour_jitter", |layer, scope, inputs| {
    let [mut x] = arity("colour_jitter", inputs)?;
    let strengths = [layer.brightness, layer.contrast, layer.saturation];
    for (name, value) in ["brightness", "contrast", "saturation"]
        .into_iter()
        .zip(strengths)
    {
        share("colour_jitter", name, value)?;
    }
    let [n, c, h, w] = scope
        .ty(x)?
        .shape
        .axes::<4>("colour_jitter", "[N, C, H, W] images")?;
    if layer.saturation > 0.0 && c != 3 {
        let found = format!("{c} channels");
        return Err(Error::shape(
            "colour_jitter",
            found,
            "3 channels, to have a saturation",
        ));
    }
    let factors = drawn(scope, x, |[a, b, c, _]| {
        let factor = |(u, s): (Expr, f64)| 1.0 - s + u * (2.0 * s);
        [a, b, c].into_iter().zip(strengths).map(factor).collect()
    })?;
    let Some(factors) = factors else {
        return Ok(x);
    };
    if layer.brightness > 0.0 {
        x = pointwise(scope, [x, factors[0]], |[x, f]| (f * x).clamp(0.0, 1.0))?;
    }
    let mut towards = |x: Value, factor: Value, axes: &[usize], extents: &[usize]| {
        // A reduction over these axes of luma, or of the mean of all channels where they are no colours.
        let weights = match c {
            3 => vec![0.299, 0.587, 0.114],
            _ => vec![1.0 / c as f32; c],
        };
        let weights = scope.constant(&[c, 1, 1], weights)?;
        let shares = pointwise(scope, [x, weights], |[x, w]| x * w)?;
        let sums = scope.op1(Arc::new(Reduction::new(Kind::Sum, axes)), &[shares])?;
        let sums = scope.reshape(sums, extents)?;
        let places: usize = axes.iter().map(|&axis| [n, c, h, w][axis]).product();
        let scale = c as f64 / places as f64;
        pointwise(scope, [x, sums, factor], |[x, m, f]| {
            (&f * x + (1.0 - &f) * (m * scale)).clamp(0.0, 1.0)
        })
    };
    if layer.contrast > 0.0 {
        x = towards(x, factors[1], &[1, 2, 3], &[n, 1, 1, 1])?;
    }
    if layer.saturation > 0.0 {
        x = towards(x, factors[2], &[1], &[n, 1, h, w])?;
    }
    Ok(x)
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Choice, Device};
    use crate::graph::Graph;
    use crate::model::{Layer, Variables};
    use crate::rng;
    use crate::run::Session;
    use crate::shape::Type;

    const EXTENTS: [usize; 4] = [16, 3, 9, 7];

    /// Images of numbers from 0.2 to 0.8, no two alike in what they consist of.
    fn images() -> Vec<f32> {
        let n: usize = EXTENTS.iter().product();
        (0..n)
            .map(|i| 0.2 + 0.6 * ((i * 37 % 1009) as f32 / 1009.0))
            .collect()
    }

    /// What a layer makes of the images in a step of training, alike on the CPU and, where there is one, a GPU.
    fn trained(layer: &dyn Layer, step: u32) -> Vec<Vec<f32>> {
        let on = |device: &Device| {
            let mut graph = Graph::new();
            let x = graph
                .input::<f32>("x", Type::f32("x", &EXTENTS).unwrap())
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
            let y = scope.layer("layer", layer, &[x.value()]).unwrap();
            let y = graph.output::<f32>("y", y).unwrap();
            let mut session = Session::new(&graph, device).unwrap();
            session.write(x, &images()).unwrap();
            session.write(keys, &rng::keys(5, 0)).unwrap();
            session.write(now, &[step, step]).unwrap();
            for variable in variables.all() {
                let handle = graph.handle::<f32>(variable.value).unwrap();
                session.write(handle, &variable.draw(0, 0, 0)).unwrap();
            }
            session.run(program, 1).unwrap();
            session.read(y).unwrap().replicas().next().unwrap().to_vec()
        };
        let found = on(&Device::open(Choice::Cpu).unwrap());
        if let Ok(gpu) = Device::open(Choice::Gpu) {
            let there = on(&gpu);
            let mut off = found.iter().zip(&there).map(|(a, b)| (a - b).abs());
            assert!(off.all(|off| off < 1e-6));
        }
        let size = EXTENTS[1..].iter().product();
        found.chunks(size).map(<[f32]>::to_vec).collect()
    }

    fn originals() -> Vec<Vec<f32>> {
        let size = EXTENTS[1..].iter().product();
        images().chunks(size).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn a_square_is_cut_out_of_each_image() {
        let [_, c, h, w] = EXTENTS;
        let mut corners = std::collections::BTreeSet::new();
        for step in 0..8 {
            for (found, x) in trained(&Cutout::new(4), step).iter().zip(originals()) {
                let gone: Vec<usize> = (0..h * w).filter(|&k| found[k] == 0.0).collect();
                let rows = [gone[0] / w, gone[gone.len() - 1] / w];
                let columns = gone.iter().map(|k| k % w);
                let columns = [columns.clone().min().unwrap(), columns.max().unwrap()];
                // At least half a side is left at an edge, and a whole one elsewhere.
                for ([first, last], n) in [(rows, h), (columns, w)] {
                    let side = last - first + 1;
                    let cut = first == 0 || last == n - 1;
                    assert!(
                        side == 4 || (cut && (2..4).contains(&side)),
                        "{first} to {last}"
                    );
                }
                let within = |k: usize, [a, b]: [usize; 2]| (a..=b).contains(&k);
                for k in 0..c * h * w {
                    let (r, column) = (k / w % h, k % w);
                    let wanted = match within(r, rows) && within(column, columns) {
                        true => 0.0,
                        false => x[k],
                    };
                    assert_eq!(found[k], wanted, "place {k}");
                }
                corners.insert((rows, columns));
            }
        }
        assert!(
            corners.len() > 40,
            "{} different squares of 128",
            corners.len()
        );
        assert_eq!(trained(&Cutout::new(4), 3), trained(&Cutout::new(4), 3));
        let half = Cutout { size: 4, p: 0.5 };
        let whole = |step| {
            let images = trained(&half, step).into_iter().zip(originals());
            images.filter(|(a, b)| a == b).count()
        };
        let whole: usize = (0..8).map(whole).sum();
        assert!((40..88).contains(&whole), "{whole} of 128 are whole");
    }

    #[test]
    fn brightness_is_a_factor_of_each_image() {
        let layer = ColourJitter {
            brightness: 0.6,
            ..Default::default()
        };
        let mut factors = Vec::new();
        for (found, x) in trained(&layer, 1).iter().zip(originals()) {
            let dark = (0..x.len()).min_by(|&a, &b| x[a].total_cmp(&x[b])).unwrap();
            let factor = found[dark] / x[dark];
            assert!((0.4..=1.6).contains(&factor), "{factor}");
            for (found, x) in found.iter().zip(&x) {
                assert!((found - (factor * x).min(1.0)).abs() < 1e-5);
            }
            factors.push(factor);
        }
        let spread = factors.iter().copied().fold(0.0, f32::max)
            - factors.iter().copied().fold(2.0, f32::min);
        assert!(spread > 0.3, "{factors:?}");
    }

    /// Luma of each pixel.
    fn luma(x: &[f32]) -> Vec<f32> {
        let places = x.len() / 3;
        let at = |k| 0.299 * x[k] + 0.587 * x[places + k] + 0.114 * x[2 * places + k];
        (0..places).map(at).collect()
    }

    #[test]
    fn contrast_and_saturation_blend_with_the_luma() {
        for (contrast, saturation) in [(0.2, 0.0), (0.0, 0.2)] {
            let layer = ColourJitter {
                contrast,
                saturation,
                ..Default::default()
            };
            let mut different = 0;
            for (found, x) in trained(&layer, 2).iter().zip(originals()) {
                let luma = luma(&x);
                let mean = luma.iter().sum::<f32>() / luma.len() as f32;
                let towards = |k: usize| match saturation {
                    0.0 => mean,
                    _ => luma[k % luma.len()],
                };
                // The factor, from the pixel that is farthest from what it is blended with.
                let far = |k: &usize| (x[*k] - towards(*k)).abs();
                let k = (0..x.len())
                    .max_by(|a, b| far(a).total_cmp(&far(b)))
                    .unwrap();
                let factor = (found[k] - towards(k)) / (x[k] - towards(k));
                assert!((0.8..=1.2).contains(&factor), "{factor}");
                different += usize::from((factor - 1.0).abs() > 0.05);
                for k in 0..x.len() {
                    let wanted = (factor * x[k] + (1.0 - factor) * towards(k)).clamp(0.0, 1.0);
                    assert!(
                        (found[k] - wanted).abs() < 1e-5,
                        "{} for {wanted}",
                        found[k]
                    );
                }
            }
            assert!(different > 8, "{different} of 16 factors differ from 1");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        use crate::model::{Input, Model};
        let told = |model: Result<Model>| model.map(|_| ()).unwrap_err().to_string();
        let of = |channels: usize| Model::sequential(Input::f32([channels, 8, 8]));
        let cut = |size, p| told(of(3).then(Cutout { size, p }).build());
        assert!(
            cut(0, 1.0).contains("size of cutout: found 0"),
            "{}",
            cut(0, 1.0)
        );
        assert!(
            cut(2, 1.5).contains("p of cutout: found 1.5"),
            "{}",
            cut(2, 1.5)
        );
        let pale = ColourJitter {
            saturation: 0.5,
            ..Default::default()
        };
        let grey = told(of(1).then(pale).build());
        assert!(grey.contains("1 channels; wanted 3"), "{grey}");
        let dark = ColourJitter {
            brightness: f64::NAN,
            ..Default::default()
        };
        let dark = told(of(3).then(dark).build());
        assert!(dark.contains("brightness of colour_jitter"), "{dark}");
    }

    /// Anew in each step, the same bits again for the same step, and apart for two layers.
    #[test]
    fn pictures_are_distorted_by_streams_of_their_own() {
        use crate::ops::distort::Distortion;
        let layer = Distort(Distortion {
            rotation: 20.0,
            shift: 2.0,
            alpha: 5.0,
            sigma: 2.0,
            ..Distortion::NONE
        });
        let (first, second) = (trained(&layer, 3), trained(&layer, 4));
        let originals = originals();
        let differ = |a: &[Vec<f32>], b: &[Vec<f32>]| a.iter().zip(b).all(|(a, b)| a != b);
        assert!(differ(&first, &originals) && differ(&first, &second));
        assert_eq!(trained(&layer, 3), first);
        // Between the neighbours that it is read from, or zero from outside.
        let most = |images: &[Vec<f32>]| images.iter().flatten().fold(0.0f32, |m, &x| m.max(x));
        assert!(most(&first) <= most(&originals) + 1e-6);

        /// The difference of what two layers make of the same images.
        #[derive(Debug)]
        struct Twice(Distort);
        impl Layer for Twice {
            fn kind(&self) -> &'static str {
                "twice"
            }

            fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
                let a = scope.layer("a", &self.0, inputs)?;
                let b = scope.layer("b", &self.0, inputs)?;
                pointwise(scope, [a, b], |[a, b]| a - b)
            }
        }
        let apart = trained(&Twice(layer), 3);
        assert!(apart.iter().all(|image| image.iter().any(|x| *x != 0.0)));
    }

    #[test]
    fn a_distortion_is_described_and_held_to_its_range() {
        use crate::model::{Model, Registry};
        use crate::ops::distort::Distortion;
        let build = |distortion| {
            Model::sequential([1, 6, 6])
                .then(Distort(distortion))
                .build()
        };
        let model = build(Distortion::affine()).unwrap();
        let text = model.to_json().unwrap();
        assert!(text.contains("\"rotation\":10.0"), "{text}");
        let again = Model::from_json(&text, &Registry::standard()).unwrap();
        assert_eq!(again.to_json().unwrap(), text);
        let wide = Distortion {
            rotation: 270.0,
            ..Distortion::NONE
        };
        let said = build(wide).unwrap_err().to_string();
        assert!(said.starts_with("layer distort (distort, "), "{said}");
        assert!(said.contains("rotation"), "{said}");
        let rows = Model::sequential([5])
            .then(Distort(Distortion::affine()))
            .build();
        let said = rows.unwrap_err().to_string();
        assert!(said.contains("[N, C, H, W] images"), "{said}");
    }
}
