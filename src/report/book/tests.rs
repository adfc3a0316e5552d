use super::super::record::{Picture, Plot, Row, Series, Tile};
use super::*;

/// A record with every kind of content.
fn record(id: &str) -> Record {
    let tile = |k: usize, label: &str| Tile {
        pixels: (0..6).map(|i| (i * 40 + k) as u8).collect(),
        top: label.into(),
        bottom: if label.is_empty() { "" } else { "9" }.into(),
    };
    let picture = |title: &str, label: &str| Picture {
        title: title.into(),
        caption: "What to see.".into(),
        height: 2,
        width: 3,
        tiles: (0..6).map(|k| tile(k, label)).collect(),
    };
    Record {
        id: id.into(),
        chapter: 3,
        title: format!("Title of {id}"),
        question: "Does it?".into(),
        setting: "784-30-10".into(),
        command: format!("wgrad book run {id}"),
        data: "MNIST".into(),
        device: "a GPU".into(),
        version: "0.1.0".into(),
        seeds: vec![1, 2, 3],
        epochs: Some(30),
        book_epochs: Some(30),
        rows: vec![
            Row {
                what: "test accuracy".into(),
                unit: "%".into(),
                book: Some(95.42),
                ours: vec![95.2, 95.5, 95.6],
                slack: 0.3,
                ..Row::default()
            },
            Row {
                what: "cost".into(),
                book: Some(0.5),
                ours: vec![0.1],
                ..Row::default()
            },
        ],
        plots: vec![Plot {
            title: "Curve".into(),
            series: vec![Series {
                name: "a".into(),
                book: false,
                points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
            }],
            ..Plot::default()
        }],
        pictures: vec![picture("Filters", ""), picture("Misread", "4")],
        notes: vec!["A note.".into()],
        seconds: 12.0,
        ..Record::default()
    }
}

/// Whether each tag is closed by its own, in order; panics with the first that is not.
fn check_balanced(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, _) = part
            .split_once('>')
            .unwrap_or_else(|| panic!("open tag {part}"));
        let name = tag.split([' ', '\n', '/']).find(|n| !n.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing {tag}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in {tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

/// A table that is wider than a telephone moves in its own frame, and not the page.
#[test]
fn every_table_scrolls_by_itself() {
    for records in [vec![record("a")], vec![record("a"), record("b")]] {
        let page = page_html(&records).unwrap();
        let tables: Vec<_> = page.match_indices("<table>").collect();
        assert!(!tables.is_empty());
        for (at, _) in tables {
            let frame = page[..at].trim_end().rsplit('<').next().unwrap();
            let can = frame.contains("class=\"scroll\"") && frame.contains("tabindex=\"0\"");
            assert!(can, "a table in <{frame}");
        }
        assert!(page.contains(".scroll { overflow-x: auto; max-width: 100%;"));
    }
}

#[test]
fn a_page_has_everything_and_needs_nothing() {
    let page = page_html(&[record("ch1-a"), record("ch3-b")]).unwrap();
    check_balanced(&page);
    for id in ["ch1-a", "ch3-b"] {
        assert!(page.contains(&format!("<a href=\"#x-{id}\">Title of {id}</a>")));
        assert!(page.contains(&format!("<section id=\"x-{id}\">")));
        assert!(page.contains(&format!("<code>wgrad book run {id}</code>")));
    }
    for words in [
        "Does it?",
        "784-30-10",
        "95.42\u{a0}%",
        "95.43 ± 0.21\u{a0}%",
        "95.20 · 95.50 · 95.60",
        "1 of 2 agree",
        "4 of its numbers stand beside ours: <strong>2 agree</strong>, 2 differ.",
        "1 point left out",
        "What to see.",
        "<b>4</b><span class=\"read\">9</span>",
        "<li>A note.</li>",
        "1, 2, 3",
        "a GPU",
        "12.0\u{a0}s",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("ynthetic") && !page.contains("hortened"));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    for outside_word in ["http", "<script", "<link", "url(", "@import", "src=\"/"] {
        assert!(!outside.contains(outside_word), "{outside_word}");
    }
}

#[test]
fn one_record_is_a_run_of_its_own() {
    let page = page_html(&[record("ch1-a")]).unwrap();
    check_balanced(&page);
    assert!(page.contains("<h1>Title of ch1-a</h1>") && !page.contains("<nav"));
    let rule = "within our mean ± 3 standard deviations";
    assert_eq!(page.matches(rule).count(), 1);
    let all = page_html(&[record("ch1-a"), record("b")]).unwrap();
    assert_eq!(all.matches(rule).count(), 1);
}

#[test]
fn synthetic_data_and_shortened_runs_are_said_plainly() {
    let mut one = record("a");
    (one.synthetic, one.epochs) = (true, Some(5));
    let page = page_html(&[one.clone(), record("b")]).unwrap();
    for words in [
        "Synthetic data: the digits were drawn by a program",
        "Shortened run: 5 of 30 epochs.",
        "not comparable (synthetic data)",
        "MNIST (synthetic)",
        "1 of these experiments ran on synthetic digits",
        "2 of its numbers stand beside ours: <strong>1 agree</strong>, 1 differ.",
    ] {
        assert!(page.contains(words), "{words}");
    }
    one.synthetic = false;
    let page = page_html(std::slice::from_ref(&one)).unwrap();
    assert!(page.contains("differs (shortened run)"));
    let table = table_markdown(&[one]).unwrap();
    assert!(
        table.contains("| 5 / 30 | differs (shortened run) |"),
        "{table}"
    );
}

#[test]
fn all_text_is_escaped() {
    let evil = "<script>alert(1)</script>\"'&|`_*\u{0}";
    let mut r = record(evil);
    let (row, plot) = (&mut r.rows[0], &mut r.plots[0]);
    let [sheet, tiles] = &mut r.pictures[..] else {
        panic!("two pictures");
    };
    let tile = &mut tiles.tiles[0];
    for text in [
        &mut r.title,
        &mut r.question,
        &mut r.setting,
        &mut r.command,
        &mut r.data,
        &mut r.device,
        &mut r.version,
        &mut r.notes[0],
        &mut row.what,
        &mut row.unit,
        &mut plot.title,
        &mut plot.x_label,
        &mut plot.y_label,
        &mut plot.series[0].name,
        &mut sheet.title,
        &mut sheet.caption,
        &mut tiles.title,
        &mut tile.top,
        &mut tile.bottom,
    ] {
        *text = evil.into();
    }
    for page in [
        page_html(std::slice::from_ref(&r)).unwrap(),
        page_html(&[r.clone(), record("b")]).unwrap(),
    ] {
        check_balanced(&page);
        assert!(!page.contains("<script") && !page.contains('\0'));
        assert!(page.contains("<li>&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    }
    let table = table_markdown(&[r]).unwrap();
    let outside_code = table.replace(&format!("\n{}\n", evil.replace('\0', " ")), "");
    assert!(!outside_code.contains("<script"), "{table}");
    for line in table.lines().filter(|l| l.starts_with("| ")) {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 8, "{line}");
    }
}

#[test]
fn records_that_make_no_page_are_errors() {
    assert!(matches!(page_html(&[]), Err(Error::Setting { .. })));
    assert!(matches!(table_markdown(&[]), Err(Error::Setting { .. })));
    let twice = page_html(&[record("a"), record("a")]).unwrap_err();
    assert!(twice.to_string().contains("two named `a`"), "{twice}");
    for k in 0..2 {
        let mut wrong = record("a");
        wrong.pictures[k].tiles[3].pixels.pop();
        let e = page_html(&[wrong]).unwrap_err();
        assert!(matches!(e, Error::Shape { .. }), "{e}");
        assert!(e.to_string().contains("tile 3"), "{e}");
    }
    let mut bare = Record::default();
    bare.pictures.push(Picture::default());
    bare.plots.push(Plot::default());
    bare.rows.push(Row::default());
    let page = page_html(&[bare]).unwrap();
    check_balanced(&page);
    assert!(page.contains("There are none.") && page.contains("not measured"));
}

#[test]
fn a_sheet_has_the_stated_size_and_every_tile_in_its_place() {
    let picture = record("a").pictures[0].clone();
    let sheet = sheet::Sheet::of(&picture).unwrap();
    // 84 / 3 = 28 times; 3 tiles in a row, 2 rows, gaps of 4.
    assert_eq!(
        (sheet.height, sheet.width, sheet.columns, sheet.scale),
        (2 * 60 + 4, 3 * 88 + 4, 3, 28)
    );
    let bytes = picture_png(&picture).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(
        (frame.height as usize, frame.width as usize),
        (sheet.height, sheet.width)
    );
    // The middle of each tile's last pixel.
    for (i, tile) in picture.tiles.iter().enumerate() {
        let (y, x) = (4 + i / 3 * 60 + 42, 4 + i % 3 * 88 + 70);
        assert_eq!(pixels[y * sheet.width + x], tile.pixels[5], "tile {i}");
    }
    assert_eq!(pixels[0], 128);
    let mut huge = picture;
    (huge.height, huge.width) = (usize::MAX / 2, usize::MAX / 2);
    assert!(matches!(picture_png(&huge), Err(Error::Shape { .. })));
}

#[test]
fn a_run_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs/a");
    let mut one = record("a");
    one.pictures.push(Picture::default());
    one.rows[1].ours = vec![f64::INFINITY];
    write_run(&path, &one).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = [
        "index.html",
        "picture-1.png",
        "picture-2.png",
        "plot-1.png",
        "plot-1.svg",
        "record.json",
    ];
    assert_eq!(names, wanted);
    let back = read_run(&path).unwrap();
    assert!(back.rows[1].ours[0].is_nan() && back.plots[0].series[0].points[1].1.is_nan());
    assert_eq!(back.rows[0], one.rows[0]);
    let page = std::fs::read_to_string(path.join("index.html")).unwrap();
    assert_eq!(page, page_html(&[one]).unwrap());

    std::fs::write(path.join(RECORD_FILE), "{\"id\": 3").unwrap();
    assert!(matches!(read_run(&path), Err(Error::File { .. })));
    assert!(matches!(read_run(folder.path()), Err(Error::Io { .. })));
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(write_run(&folder.path().join("file"), &record("a")).is_err());
}
