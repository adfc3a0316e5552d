use super::*;

fn parsed(text: &str) -> Result<Table> {
    Table::parse(Path::new("t.csv"), text.as_bytes())
}

fn told<T>(result: Result<T>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

fn targets(names: &[&str]) -> Roles {
    Roles {
        targets: names.iter().map(|n| n.to_string()).collect(),
        ..Roles::default()
    }
}

const HOUSES: &str = "rooms,place,price\n3,town,250\n5,country,300\n4,\"town\",310\n";

#[test]
fn numbers_are_standardised_and_words_get_a_place_each() {
    let table = parsed(HOUSES).unwrap();
    let schema = Schema::of(&table, &targets(&["price"])).unwrap();
    let data = schema.dataset(&table).unwrap();
    let input = data.column("input").unwrap();
    assert_eq!(input.extents, [3]);
    // Rooms 3, 5, 4: mean 4, deviation √(2/3). Places in the order of the alphabet.
    let unit = 1.5f32.sqrt();
    for (row, wanted) in [[-unit, 0.0, 1.0], [unit, 1.0, 0.0], [0.0, 0.0, 1.0]]
        .iter()
        .enumerate()
    {
        for (a, b) in input.row(row).iter().zip(wanted) {
            assert!((a - b).abs() < 1e-6);
        }
    }
    assert_eq!(data.column("target as it is").unwrap().row(1), [300.0]);
    let again: Schema = serde_json::from_str(&serde_json::to_string(&schema).unwrap()).unwrap();
    assert_eq!(again, schema);
}

#[test]
fn a_target_of_words_is_one_of_classes() {
    let table = parsed(HOUSES).unwrap();
    let schema = Schema::of(&table, &targets(&["place"])).unwrap();
    assert_eq!(schema.classes().unwrap(), ["country", "town"]);
    let data = schema.dataset(&table).unwrap();
    let labels: Vec<f32> = (0..3)
        .flat_map(|r| data.column("target").unwrap().row(r))
        .collect();
    assert_eq!(labels, [1.0, 0.0, 1.0]);
    // Numbers are, if asked for, in the order of their size.
    let numbers = parsed("x,y\n1,10\n2,9\n3,10\n").unwrap();
    let roles = Roles {
        classes: true,
        ..targets(&["y"])
    };
    assert_eq!(
        Schema::of(&numbers, &roles).unwrap().classes().unwrap(),
        ["9", "10"]
    );
}

#[test]
fn a_broken_file_is_refused_with_row_and_column() {
    for (text, wanted) in [
        ("a,b\n1,2\n3\n", "2 fields"),
        ("a,a\n1,2\n", "two columns named `a`"),
        ("a,\n1,2\n", "no name for column 2"),
        ("a,b\n", "no rows"),
        ("", "no rows"),
        ("a,b\n1,2\n3,NaN\n", "NaN in row 2, column `b`"),
        ("a,b\n1,inf\n", "inf in row 1, column `b`"),
    ] {
        let error = told(parsed(text));
        assert!(
            error.starts_with("t.csv: ") && error.contains(wanted),
            "{text:?}: {error}"
        );
    }
    let bytes = Table::parse(Path::new("t.csv"), b"a,b\n1,\xff\n");
    assert!(told(bytes).contains("UTF-8"));
}

#[test]
fn columns_that_tell_nothing_are_refused_by_name() {
    let flat = parsed("x,y\n1,2\n1,3\n").unwrap();
    let error = told(Schema::of(&flat, &targets(&["y"])));
    assert!(
        error.contains("1 in every training row in column `x`"),
        "{error}"
    );
    let plain = Roles {
        standardise: false,
        ..targets(&["y"])
    };
    assert!(Schema::of(&flat, &plain).is_ok());
    let error = told(Schema::of(&flat, &targets(&["z"])));
    assert!(
        error.starts_with("targets, t.csv: unknown column `z`"),
        "{error}"
    );
    assert!(told(Schema::of(&flat, &Roles::default())).contains("targets"));
    let both = Roles {
        inputs: vec!["y".into()],
        ..targets(&["y"])
    };
    assert!(told(Schema::of(&flat, &both)).contains("a target too"));
    let one = parsed("x,y\n1,a\n2,a\n").unwrap();
    assert!(told(Schema::of(&one, &targets(&["y"]))).contains("column `y`"));
}

#[test]
fn what_the_training_rows_did_not_have_is_said() {
    let table = parsed(HOUSES).unwrap();
    let schema = Schema::of(&table, &targets(&["price"])).unwrap();
    let other = parsed("rooms,place,price\n3,village,1\n").unwrap();
    let error = told(schema.inputs(&other));
    assert!(
        error.contains("`village` in row 1 in column `place`"),
        "{error}"
    );
    let words = parsed("rooms,place,price\n3,town,1\nmany,town,1\n").unwrap();
    let error = told(schema.inputs(&words));
    assert!(
        error.contains("`many` in row 2 in column `rooms`"),
        "{error}"
    );
    // Inputs alone are enough to find the target.
    let asked = parsed("place,rooms\ntown,3\n").unwrap();
    assert_eq!(schema.inputs(&asked).unwrap().len(), 3);
}

#[test]
fn an_empty_cell_is_refused_where_its_column_is_needed() {
    let table = parsed("rooms,place,price\n3,town,1\n4,,2\n5,country,\n").unwrap();
    let error = told(Schema::of(&table, &targets(&["price"])));
    assert!(
        error.contains("nothing in row 3, column `price`"),
        "{error}"
    );
    let rooms = Roles {
        inputs: vec!["rooms".into()],
        ..targets(&["price"])
    };
    let schema = Schema::of(&table.select(&[0, 1]).unwrap(), &rooms).unwrap();
    // The model needs neither the place nor the price of the rows that it is asked about.
    assert_eq!(schema.inputs(&table).unwrap().len(), 3);
    let asked = parsed("rooms,place\n,town\n").unwrap();
    let error = told(schema.inputs(&asked));
    assert!(
        error.contains("nothing in row 1, column `rooms`"),
        "{error}"
    );
}

#[test]
fn words_are_words_however_another_file_is_written() {
    let table = parsed("code,y\n007,1\nX1,2\n1e3,3\nX2,4\n").unwrap();
    let schema = Schema::of(&table, &targets(&["y"])).unwrap();
    let asked = parsed("code\n007\n1e3\n").unwrap();
    assert_eq!(
        schema.inputs(&asked).unwrap(),
        [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    );
    let other = parsed("code\n7\n").unwrap();
    assert!(told(schema.inputs(&other)).contains("`7` in row 1 in column `code`"));
}

#[test]
fn one_sign_does_not_make_a_column_of_numbers_one_of_words() {
    let table = parsed("x,y\n1,1\n2,2\n?,3\n4,4\n").unwrap();
    let error = told(Schema::of(&table, &targets(&["y"])));
    assert!(error.contains("`?` in row 3 in column `x`"), "{error}");
    let meant = Roles {
        words: vec!["x".into()],
        ..targets(&["y"])
    };
    assert_eq!(Schema::of(&table, &meant).unwrap().width(), 4);
    let sizes = parsed("x,y\nS,1\nM,2\n12,3\n14,4\n").unwrap();
    assert_eq!(Schema::of(&sizes, &targets(&["y"])).unwrap().width(), 4);
}

/// Whoever has a file does not see the parts that it is split into; the first row below the header is 1.
#[test]
fn rows_of_a_part_have_the_files_numbers() {
    let table = parsed(HOUSES).unwrap();
    let schema = Schema::of(&table, &targets(&["price"])).unwrap();
    let part = table.select(&[2, 0]).unwrap();
    let data = schema.dataset(&part).unwrap();
    assert_eq!(data.named(0, 0), "row 3 of the file");
    let again = data.select(&[1, 0]).unwrap().range(1..2).unwrap();
    assert_eq!(again.named(0, 0), "row 3 of the file");
    assert_eq!(part.select(&[0]).unwrap().select(&[0]).unwrap().places, [3]);
    let other = parsed("rooms,place,price\n3,town,250\n4,moon,310\n").unwrap();
    let other = other.select(&[1]).unwrap();
    let unknown = told(schema.dataset(&other));
    assert!(unknown.contains("`moon` in row 2"), "{unknown}");
}
