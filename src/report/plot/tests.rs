use super::*;

fn series(name: &str, book: bool, points: &[(f64, f64)]) -> Series {
    Series {
        name: name.into(),
        book,
        points: points.to_vec(),
    }
}

fn plot(series: Vec<Series>) -> Plot {
    Plot {
        title: "Accuracy".into(),
        x_label: "epoch".into(),
        y_label: "test images read correctly (%)".into(),
        series,
        ..Plot::default()
    }
}

/// SVG and PNG of a plot, after checks that hold for each; the SVG.
fn drawn(plot: &Plot) -> String {
    let svg = plot_svg(plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for wrong in ["NaN", "inf", "2147483647", "-2147483648"] {
        assert!(!svg.contains(wrong), "{wrong} in {svg}");
    }
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    svg
}

/// Width, height and pixels of a PNG.
fn decoded(bytes: Vec<u8>) -> (u32, u32, Vec<u8>) {
    let decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    (frame.width, frame.height, pixels)
}

/// Lines of curves in the SVG's text.
fn lines(svg: &str) -> usize {
    svg.matches("<polyline fill=\"none\" opacity=\"1\" stroke=\"#0072B2\"")
        .count()
}

#[test]
fn a_plot_names_what_it_shows_and_a_twin_has_its_colour() {
    let line = [(1.0, 90.0), (2.0, 95.0), (30.0, 96.0)];
    let svg = drawn(&plot(vec![
        series("one", false, &line),
        series("two", false, &line),
        series("two", true, &[(30.0, 96.5)]),
        series("three", false, &line),
    ]));
    for words in [
        "Accuracy",
        "epoch",
        "correctly (%)",
        ">\none",
        "two, the book",
    ] {
        assert!(svg.contains(words), "{words} in {svg}");
    }
    assert_eq!(svg.matches("r=\"20\"").count(), 2, "legend and chart");
    let rings = svg.lines().filter(|l| l.contains("r=\"20\""));
    assert!(rings.into_iter().all(|l| l.contains("#D55E00")), "{svg}");
    assert!(svg.contains("#008A65") && !svg.contains("#AA3377\" stroke-width"));
}

#[test]
fn the_png_has_twice_the_size_and_shows_the_curve() {
    let mut plot = plot(vec![series("a", false, &[(0.0, 1.0), (9.0, 5.0)])]);
    let blue = |plot: &Plot| {
        let (width, height, pixels) = decoded(plot_png(plot).unwrap());
        let (w, h) = Layout::of(plot).size();
        assert_eq!((width, height), (2 * w, 2 * h));
        pixels
            .as_chunks::<3>()
            .0
            .iter()
            .filter(|p| **p == [0, 114, 178])
            .count()
    };
    let with = blue(&plot);
    assert!(with > 1000, "{with}");
    plot.series[0].points.clear();
    assert!(blue(&plot) * 4 < with, "a legend alone");
}

#[test]
fn points_left_out_break_the_line_and_are_counted() {
    let points: Vec<_> = (0..40).map(|i| (f64::from(i), f64::from(i - 3))).collect();
    let mut odd = plot(vec![series("", false, &points)]);
    assert_eq!(lines(&drawn(&odd)), 1);
    assert!(!drawn(&odd).contains("left out"));
    odd.series[0].points[20].1 = f64::NAN;
    assert_eq!(lines(&drawn(&odd)), 2, "two parts");
    assert!(drawn(&odd).contains("1 point left out"));
    odd.series[0].points[30].0 = f64::INFINITY;
    assert_eq!(lines(&drawn(&odd)), 3);
    odd.log_y = true;
    // −3 to 0 have no logarithm.
    assert!(drawn(&odd).contains("6 points left out"));
    odd.log_x = true;
    assert!(drawn(&odd).contains("6 points left out"));
}

#[test]
fn extreme_data_are_drawn() {
    let extremes = [
        0.0,
        -0.0,
        5e-324,
        f64::MIN_POSITIVE,
        1e-300,
        1e-9,
        1.0,
        -1.0,
        1e15 + 0.125,
        1e300,
        f64::MAX,
        f64::MIN,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    for log in [false, true] {
        for a in extremes {
            for b in extremes {
                let mut p = plot(vec![series("s", false, &[(a, b), (b, a), (b, b)])]);
                (p.log_x, p.log_y) = (log, log);
                drawn(&p);
            }
            let mut p = plot(vec![series("s", true, &[(a, a)])]);
            (p.log_x, p.log_y) = (log, log);
            plot_png(&p).unwrap();
        }
    }
    drawn(&plot(vec![]));
    drawn(&plot(vec![series("", false, &[]), series("", true, &[])]));
    let many: Vec<_> = (0..40)
        .map(|i| {
            series(
                &format!("series {i}"),
                i % 3 == 0,
                &[(0.0, f64::from(i)), (1.0, 2.0)],
            )
        })
        .collect();
    drawn(&plot(many));
}

#[test]
fn text_is_escaped_and_short() {
    let mut p = plot(vec![series("<a&b>\u{1}\"", false, &[(1.0, 1.0)])]);
    p.title = format!("<script> {} {}", "x".repeat(500), "word ".repeat(200));
    p.y_label = "y".repeat(500);
    let svg = drawn(&p);
    assert!(!svg.contains("<a&b>") && svg.contains("&lt;a&amp;b&gt;"));
    assert!(!svg.contains("<script") && !svg.contains('\u{1}'));
    assert!(!svg.contains(&format!("\n{}", "y".repeat(62))));
    assert!(Layout::of(&p).title.len() == TITLE_LINES && svg.contains('…'));
}

#[test]
fn axes_have_few_round_ticks() {
    let labels = |values: &[f64], log| {
        let axis = Axis::around(values.iter().copied(), log, 0.05);
        axis.ticks
            .iter()
            .map(|t| axis.label(*t))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        labels(&[0.0, 30.0], false),
        ["0", "5", "10", "15", "20", "25", "30"]
    );
    assert_eq!(labels(&[100.0, 50_000.0], true), ["100", "1,000", "10,000"]);
    assert_eq!(
        labels(&[1e-7, 1e-1], true),
        ["10⁻⁷", "10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]
    );
    assert_eq!(labels(&[92.7, 96.5], false), ["93", "94", "95", "96"]);
    assert_eq!(
        labels(&[-1.0, 1.0], false),
        ["−1.0", "−0.5", "0", "0.5", "1.0"]
    );
    assert_eq!(labels(&[2.0, 30.0], true), ["2", "5", "10", "20"]);
    for log in [false, true] {
        for values in [
            [3.0, 3.0],
            [1e-300, 1e300],
            [1e15, 1e15 + 0.125],
            [95.1, 95.3],
        ] {
            let few = labels(&values, log).len();
            assert!((1..=12).contains(&few), "{values:?} {few}");
        }
    }
}

#[test]
fn every_colour_has_a_partner_on_dark_pages() {
    let many = (0..13).map(|i| series(&format!("{i}"), i == 12, &[(1.0, f64::from(i))]));
    let mut p = plot(many.collect());
    p.series[0].points.push((f64::NAN, 1.0));
    let svg = drawn(&p);
    let (style, body) = svg.split_once("</style>").unwrap();
    assert!(style.contains("prefers-color-scheme: dark"));
    let colours: Vec<_> = body
        .match_indices("\"#")
        .map(|(at, _)| &body[at..at + 9])
        .collect();
    assert!(colours.len() > 30);
    for colour in colours {
        assert!(style.contains(&format!("[fill={colour}] ")), "{colour}");
    }
}

/// Of few epochs round steps would be halves.
#[test]
fn an_axis_of_whole_numbers_has_whole_ticks() {
    for last in [1, 2, 3, 4, 7, 30, 1000] {
        let points: Vec<(f64, f64)> = (1..=last).map(|e| (f64::from(e), 90.0)).collect();
        let layout = Layout::of(&plot(vec![series("one", false, &points)]));
        let (ticks, range) = (&layout.x.ticks, &layout.x.range);
        assert!((1..=10).contains(&ticks.len()), "{last}: {ticks:?}");
        assert!(
            ticks.iter().all(|t| t.fract() == 0.0 && range.contains(t)),
            "{last}: {ticks:?}"
        );
        assert!(ticks.iter().all(|&t| !layout.x.label(t).contains('.')));
    }
    // A rate is no number of anything.
    let layout = Layout::of(&plot(vec![series("one", false, &[(0.5, 1.0), (1.5, 2.0)])]));
    assert!(layout.x.ticks.iter().any(|t| t.fract() != 0.0));
}
