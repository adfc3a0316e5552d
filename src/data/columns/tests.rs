use super::*;

fn data() -> Dataset {
    let x: Vec<f32> = (0..40).map(|i| i as f32).collect();
    let y: Vec<u32> = (0..20).map(|i| u32::from(i % 5 == 0)).collect();
    let data = Dataset::new().with("input", [2], x).unwrap();
    data.with("target", [], y).unwrap()
}

#[test]
fn every_row_is_in_one_part_and_keeps_its_columns_together() {
    let parts = data().split(&[0.6, 0.2, 0.2], 3).unwrap();
    assert_eq!(
        parts.iter().map(Dataset::rows).collect::<Vec<_>>(),
        [12, 4, 4]
    );
    let mut seen = Vec::new();
    for part in &parts {
        for r in 0..part.rows() {
            let x = part.column("input").unwrap().row(r);
            assert_eq!(x[1], x[0] + 1.0);
            let row = x[0] as u32 / 2;
            let label = part.column("target").unwrap().row(r)[0];
            assert_eq!(label, f32::from(u8::from(row.is_multiple_of(5))));
            seen.push(row);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    assert_ne!(
        data().split(&[1.0, 1.0], 1).unwrap(),
        data().split(&[1.0, 1.0], 2).unwrap()
    );
    assert_eq!(
        data().split(&[1.0, 1.0], 1).unwrap(),
        data().split(&[1.0, 1.0], 1).unwrap()
    );
}

#[test]
fn a_stratified_split_gives_each_part_its_share_of_every_class() {
    let parts = data()
        .split_stratified("target", &[0.5, 0.25, 0.25], 9)
        .unwrap();
    let ones = |part: &Dataset| {
        let column = part.column("target").unwrap();
        (0..part.rows())
            .filter(|&r| column.row(r)[0] == 1.0)
            .count()
    };
    assert_eq!(
        parts.iter().map(Dataset::rows).collect::<Vec<_>>(),
        [10, 5, 5]
    );
    assert_eq!(parts.iter().map(ones).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn what_is_no_whole_table_is_refused_by_the_columns_name() {
    let told = |e: Result<Dataset>| e.unwrap_err().to_string();
    let ragged = told(Dataset::new().with("x", [3], vec![1.0f32; 7]));
    assert!(
        ragged.contains("column x") && ragged.contains("7 numbers"),
        "{ragged}"
    );
    let short = told(data().with("more", [], vec![1u32; 19]));
    assert!(
        short.contains("column more: found 19 rows; wanted 20"),
        "{short}"
    );
    let nan = told(Dataset::new().with("x", [2], vec![0.0, 1.0, 2.0, f32::NAN]));
    assert!(nan.contains("NaN in row 1"), "{nan}");
    assert!(told(data().with("input", [], vec![0u32; 20])).contains("a second"));
    let empty = data().split(&[1.0, 1e-9], 0).unwrap_err().to_string();
    assert!(empty.contains("a part without rows, of 20"), "{empty}");
    assert!(data().split(&[], 0).is_err() && data().split(&[1.0, -1.0], 0).is_err());
    assert!(data().select(&[20]).is_err() && data().select(&[]).is_err());
}

#[test]
fn windows_of_a_text_overlap_and_share_it() {
    let text: Vec<u32> = (10..20).collect();
    let data = Dataset::windows(text, 4).unwrap();
    assert_eq!(data.rows(), 6);
    assert_eq!(
        data.column("input").unwrap().row(2),
        [12.0, 13.0, 14.0, 15.0]
    );
    assert_eq!(
        data.column("target").unwrap().row(5),
        [16.0, 17.0, 18.0, 19.0]
    );
    let part = data.range(2..5).unwrap();
    assert_eq!(
        part.column("input").unwrap().row(0),
        [12.0, 13.0, 14.0, 15.0]
    );
    let picked = data.select(&[5, 0]).unwrap();
    assert_eq!(
        picked.column("target").unwrap().row(0),
        [16.0, 17.0, 18.0, 19.0]
    );
    assert!(Dataset::windows(vec![1, 2], 2).is_err());
}

#[test]
fn a_column_that_is_floats_now_has_no_classes() {
    let mut data = data();
    let names = std::sync::Arc::new(vec!["no".to_string(), "yes".to_string()]);
    for column in data.columns_mut() {
        column.classes = Some(names.clone());
    }
    let data = data.as_floats("target").unwrap();
    assert_eq!(data.column("target").unwrap().classes, None);
    assert!(data.column("input").unwrap().classes.is_some());
}
