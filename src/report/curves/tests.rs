use super::super::tests::run;
use super::*;

/// The SVG, after checks that hold for each: every tag closed, every number finite.
fn drawn(report: &Report) -> String {
    let svg = curves_svg(report).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for wrong in ["NaN", "inf", "2147483647", "-2147483648"] {
        assert!(!svg.contains(wrong), "{wrong} in {svg}");
    }
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    svg
}

#[test]
fn curves_name_what_they_show() {
    let svg = drawn(&run(10, 1));
    for words in [
        "conv-relu on digits (synthetic)",
        "training cost (mean per image)",
        "images read correctly (%)",
        "validation",
        "epoch",
        "learning rate 0.03",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    assert!(!svg.contains("replica"), "one network needs no such word");
    assert!(drawn(&run(10, 5)).contains("5 replicas (bold: their mean)"));
}

/// Shrunk to the width of a telephone, no letter is smaller than ten pixels, and no line
/// reaches beyond the picture.
#[test]
fn letters_can_be_read_on_a_telephone() {
    let number = |text: &str, name: &str| -> f64 {
        let (_, rest) = text.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    let mut long = run(10, 5);
    long.net = "a-name-of-forty-letters-with-no-space-in".into();
    long.data = "a folder with a name that is rather longer than most are".into();
    long.device = "an adapter of a maker with several names (Vulkan, some driver 12.3)".into();
    for report in [run(10, 1), long] {
        let svg = drawn(&report);
        let (head, body) = svg.split_once('>').unwrap();
        let view = head.split_once("viewBox=\"0 0 ").unwrap().1;
        let canvas: f64 = view.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(canvas, number(head, " width") * f64::from(FINE));
        let shrunk = 390.0 / canvas;
        let mut texts = 0;
        for part in body.split("<text ").skip(1) {
            let (tag, words) = part.split_once('>').unwrap();
            let size = number(tag, "font-size");
            assert!(size * shrunk >= 10.0, "{} px: {words}", size * shrunk);
            let words = words.split('<').next().unwrap().trim();
            let tag = format!(" {tag}");
            if !tag.contains("rotate") && tag.contains("text-anchor=\"start\"") {
                let wide = words.chars().count() as f64 * size * 0.56;
                assert!(number(&tag, " x") + wide <= canvas, "too long: {words}");
            }
            texts += 1;
        }
        assert!(texts > 15, "{texts}");
    }
}

#[test]
fn odd_runs_are_drawn() {
    for (epochs, replicas) in [(1, 1), (1, 5), (2, 1), (1000, 2), (3, 0)] {
        drawn(&run(epochs, replicas));
    }
    let mut odd = run(4, 2);
    odd.epochs[1].training_cost.clear();
    odd.epochs[2].test_accuracy.pop();
    drawn(&odd);
    for e in &mut odd.epochs {
        e.validation_accuracy.clear();
    }
    assert!(!drawn(&odd).contains("validation"));
    // A resumed run begins later, and a damaged report may repeat itself.
    for (i, e) in odd.epochs.iter_mut().enumerate() {
        e.epoch = 30 - i % 2;
    }
    drawn(&odd);
}

#[test]
fn values_that_are_not_finite_break_their_line_and_are_marked() {
    let mut report = run(6, 3);
    report.epochs[3].training_cost[1] = f64::NAN;
    report.epochs[4].training_cost[1] = f64::INFINITY;
    assert!(drawn(&report).contains("not finite"));
    for e in &mut report.epochs {
        e.training_cost.fill(f64::NAN);
        e.test_accuracy.fill(f64::NEG_INFINITY);
    }
    report.test_accuracy.fill(0.0);
    drawn(&report);
}

#[test]
fn extreme_costs_keep_a_sane_axis() {
    for value in [
        0.0,
        1e-300,
        f64::MIN_POSITIVE,
        5e-324,
        1e-7,
        1e5,
        1e30,
        f64::MAX,
        -3.0,
        f64::MIN,
    ] {
        let mut report = run(3, 1);
        report.epochs[1].training_cost[0] = value;
        drawn(&report);
        for e in &mut report.epochs {
            e.training_cost[0] = value;
            e.test_accuracy[0] = value;
        }
        drawn(&report);
    }
}

#[test]
fn text_is_escaped_and_short() {
    let mut report = run(2, 1);
    report.net = "<a&b>\u{1}\"".into();
    report.data = "x".repeat(500);
    let svg = drawn(&report);
    assert!(!svg.contains("<a&b>") && svg.contains("&lt;a&amp;b&gt;"));
    assert!(!svg.contains('\u{1}') && !svg.contains(&"x".repeat(61)));
}

#[test]
fn a_run_without_epochs_is_an_error() {
    let e = curves_svg(&run(0, 1)).unwrap_err();
    assert!(matches!(e, Error::Setting { .. }), "{e}");
}

#[test]
fn steps_and_ticks_are_round() {
    for (rough, step) in [
        (0.03, 0.05),
        (1.0, 1.0),
        (1.1, 2.0),
        (7.0, 10.0),
        (0.0, 1.0),
    ] {
        assert!((nice_step(rough) - step).abs() < 1e-12, "{rough}");
    }
    assert_eq!(accuracy_range([97.3, 98.0].into_iter()), 97.0..100.0);
    assert_eq!(accuracy_range([].into_iter()), 99.5..100.0);
    assert_eq!(accuracy_range([-5.0].into_iter()), 0.0..100.0);
    assert_eq!(epoch_ticks(1, 3), [1.0, 2.0, 3.0]);
    assert_eq!(epoch_ticks(1, 60).len(), 7);
    assert_eq!(ticks(0.0, 0.5, 0.1).len(), 6);
    let parts = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, f64::NAN)];
    assert_eq!(
        finite_parts(parts.into_iter()),
        [[(0.0, 1.0)], [(2.0, 3.0)]]
    );
}
