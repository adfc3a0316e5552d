//! ONNX files that are none, or not what they say: an error each, no panic, and no more memory than the
//! file's size justifies.
#![cfg(feature = "onnx")]

#[path = "common/allocation.rs"]
mod allocation;

use std::collections::BTreeMap;
use std::path::Path;

use allocation::peak;
use wgrad::interchange::{Attribute, Network, Numbers, Operator, Port, Tensor};
use wgrad::onnx;

/// Bytes that a refusal may take beside what the file's size justifies.
const FLAT: i64 = 1 << 20;
/// Bytes for each of the file's: a node of a few bytes is a few strings and lists.
const TIMES: i64 = 400;

/// Reads a file, and holds the memory that this took to the file's size.
fn read(bytes: &[u8]) -> Result<(), String> {
    let mut done = None;
    let peak = peak(|| {
        done = Some(onnx::of_bytes(bytes).and_then(|network| onnx::model(&network)));
    });
    let most = FLAT + TIMES * bytes.len() as i64;
    assert!(peak <= most, "{peak} bytes for a file of {}", bytes.len());
    done.unwrap().map(|_| ()).map_err(|e| e.to_string())
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    std::fs::read(folder.join(format!("{name}.onnx"))).unwrap()
}

#[test]
fn a_part_of_a_file_is_no_file() {
    for (name, step) in [("mlp", 1), ("words", 7), ("attention", 31)] {
        let bytes = fixture(name);
        read(&bytes).unwrap();
        for length in (0..bytes.len()).step_by(step) {
            assert!(read(&bytes[..length]).is_err(), "{name}, {length} bytes");
        }
    }
}

#[test]
fn changed_bytes_are_survived() {
    let mut refused = 0;
    for (name, step) in [("mlp", 1), ("words", 1), ("attention", 3), ("lenet", 41)] {
        let bytes = fixture(name);
        for place in (0..bytes.len()).step_by(step) {
            for change in [0x01u8, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] ^= change;
                refused += usize::from(read(&bytes).is_err());
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

fn node(kind: &str, inputs: &[&str], output: &str) -> Operator {
    Operator {
        kind: kind.into(),
        name: format!("the {kind}"),
        inputs: inputs.iter().map(|&name| name.into()).collect(),
        outputs: vec![output.into()],
        attributes: BTreeMap::new(),
    }
}

fn with(mut operator: Operator, name: &str, value: impl Into<Attribute>) -> Operator {
    operator.attributes.insert(name.into(), value.into());
    operator
}

fn constant(tensor: Tensor, output: &str) -> Operator {
    with(node("Constant", &[], output), "value", tensor)
}

/// The message for a network over x `[N, 4]` that makes y.
fn message(weights: Vec<(&str, Tensor)>, operators: Vec<Operator>) -> String {
    let port = |name: &str| Port {
        name: name.into(),
        integers: false,
        extents: vec![4],
    };
    let network = Network {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        weights: weights
            .into_iter()
            .map(|(name, tensor)| (name.into(), tensor))
            .collect(),
        operators,
    };
    match read(&onnx::to_bytes(&network)) {
        Ok(()) => "read".into(),
        Err(message) => message,
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let floats = |extents: &[usize], count: usize| Tensor::floats(extents, vec![0.5; count]);
    let relu = || node("Relu", &["x"], "y");
    assert_eq!(message(vec![], vec![relu()]), "read");
    let told = |weights, operators, wanted: &str| {
        let message = message(weights, operators);
        assert!(message.contains(wanted), "{message}, without {wanted}");
    };
    // Numbers that are not there, extents that are negative or cannot be counted.
    let gemm = || node("Gemm", &["x", "w"], "y");
    told(
        vec![("w", floats(&[4, 2], 7))],
        vec![gemm()],
        "initializer w: found 7 numbers; wanted 8",
    );
    told(
        vec![("w", floats(&[usize::MAX, 2], 8))],
        vec![gemm()],
        "initializer w: found extents [-1, 2]",
    );
    told(
        vec![("w", floats(&[1 << 40, 1 << 40], 8))],
        vec![gemm()],
        "whose product can be counted",
    );
    told(
        vec![("w", floats(&[1 << 40], 8))],
        vec![gemm()],
        "initializer w: found 8 numbers",
    );
    told(
        vec![],
        vec![gemm()],
        "node the Gemm (Gemm): found input `w`",
    );
    told(
        vec![("w", floats(&[3, 2], 6))],
        vec![gemm()],
        "node the Gemm (Gemm), matmul: found A",
    );
    // Values made twice, in a circle, or by nobody.
    told(
        vec![],
        vec![relu(), relu()],
        "node the Relu (Relu): found `y` again",
    );
    let circle = vec![
        node("Add", &["x", "b"], "a"),
        node("Relu", &["a"], "b"),
        node("Relu", &["b"], "y"),
    ];
    told(vec![], circle, "node the Add (Add): found input `b`");
    told(vec![], vec![node("Relu", &["x"], "z")], "output: found `y`");
    // What is not supported.
    told(
        vec![],
        vec![node("Acos", &["x"], "y")],
        "node the Acos (Acos): found operator Acos; wanted one of Abs",
    );
    told(
        vec![],
        vec![with(relu(), "odd", 1)],
        "node the Relu (Relu): found attribute odd",
    );
    told(
        vec![],
        vec![with(node("Elu", &["x"], "y"), "alpha", 1)],
        "attribute alpha = 1; wanted a finite float",
    );
    told(
        vec![],
        vec![node("Relu", &["x", "x"], "y")],
        "node the Relu (Relu): found 2 inputs",
    );
    told(
        vec![],
        vec![node("Relu", &[], "y")],
        "node the Relu (Relu): found 0 inputs",
    );
    told(
        vec![("w", floats(&[4], 4))],
        vec![node("Relu", &["w"], "y")],
        "output: found y; wanted a value whose first",
    );
    // An example's numbers would depend on how many others there are.
    let softmax = with(node("Softmax", &["x"], "y"), "axis", 0);
    let along = "axis 0, which depends on the mini-batch";
    told(vec![], vec![softmax], along);
    let axes = |axes: &[i64]| Attribute::Ints(axes.to_vec());
    let mean = |of: &[i64]| {
        let mean = with(node("ReduceMean", &["x"], "m"), "axes", axes(of));
        vec![mean, node("Sub", &["x", "m"], "y")]
    };
    told(
        vec![],
        mean(&[-2]),
        "axis -2, which depends on the mini-batch",
    );
    told(vec![], mean(&[]), along);
    assert_eq!(message(vec![], mean(&[1])), "read");
    let cumsum = vec![
        constant(Tensor::ints(&[0]), "axis"),
        node("CumSum", &["x", "axis"], "y"),
    ];
    told(vec![], cumsum, along);
    // Integers of a graph are floats, which are not rounded.
    let quotient = vec![
        constant(Tensor::ints(&[2]), "two"),
        node("Div", &["x", "two"], "y"),
    ];
    told(vec![], quotient, "found a quotient of integers");
    // Numbers that a network lacks, without a file that would tell.
    let port = |name: &str| Port {
        name: name.into(),
        integers: false,
        extents: vec![4],
    };
    let network = |weights: &[(&str, Tensor)], operators: Vec<Operator>| Network {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        weights: weights
            .iter()
            .map(|(n, w)| (n.to_string(), w.clone()))
            .collect(),
        operators,
    };
    let refused = |network: &Network| onnx::model(network).map(drop).unwrap_err().to_string();
    let empty = [("w", Tensor::floats(&[3], vec![]))];
    let hollow = refused(&network(&empty, vec![node("Mul", &["x", "w"], "y")]));
    assert!(
        hollow.contains("initializer w: found 0 numbers"),
        "{hollow}"
    );
    let operators = vec![
        constant(Tensor::floats(&[4], vec![]), "c"),
        node("Add", &["x", "c"], "y"),
    ];
    let hollow = refused(&network(&[], operators));
    assert!(hollow.contains("0 numbers of extents [4]"), "{hollow}");
    // Shapes of any size are told by a few bytes.
    let shaped =
        |shape: &[i64], operator: Operator| vec![constant(Tensor::ints(shape), "shape"), operator];
    let reshape = || node("Reshape", &["x", "shape"], "y");
    told(
        vec![],
        shaped(&[1 << 40, 1 << 40], reshape()),
        "node the Reshape (Reshape): found [2, 4] to",
    );
    told(
        vec![],
        shaped(&[-1, 0, 0, 0], reshape()),
        "node the Reshape (Reshape): found [2, 4] to",
    );
    told(
        vec![],
        shaped(&[-1, -1], reshape()),
        "node the Reshape (Reshape): found [2, 4] to",
    );
    told(
        vec![],
        shaped(&[2, 4], reshape()),
        "node the Reshape (Reshape): found [3, 4] to [2, 4]",
    );
    let expand = node("Expand", &["x", "shape"], "y");
    told(
        vec![],
        shaped(&[1 << 40, 1, 1], expand.clone()),
        "node the Expand (Expand)",
    );
    told(
        vec![],
        shaped(&[-3, 1, 1], expand),
        "found [-3, 1, 1]; wanted numbers of 0 or more",
    );
    let filled = |extents: &[i64], value: Tensor| {
        let fill = with(node("ConstantOfShape", &["shape"], "c"), "value", value);
        vec![
            constant(Tensor::ints(extents), "shape"),
            fill,
            node("Add", &["x", "c"], "y"),
        ]
    };
    told(
        vec![],
        filled(&[1 << 62, 1 << 62], Tensor::floats(&[1], vec![0.0])),
        "2^30",
    );
    let integers = Tensor {
        extents: vec![1],
        numbers: Numbers::I64(vec![1]),
    };
    told(
        vec![],
        filled(&[1 << 62, 1 << 62], integers),
        "wanted at most 4,096",
    );
    // A gamma of a billion ones, whose zeros for beta nobody is to allocate.
    let shape = constant(Tensor::ints(&[4, 1 << 27]), "shape");
    let gamma = with(
        node("ConstantOfShape", &["shape"], "g"),
        "value",
        Tensor::floats(&[1], vec![1.0]),
    );
    let norm = node("LayerNormalization", &["x", "g"], "y");
    told(
        vec![],
        vec![shape, gamma, norm],
        "node the LayerNormalization (LayerNormalization)",
    );
    let pads = constant(Tensor::ints(&[0, i64::MAX, 0, i64::MAX]), "pads");
    told(
        vec![],
        vec![pads, node("Pad", &["x", "pads"], "y")],
        "node the Pad (Pad)",
    );
    let slice = |numbers: [i64; 4]| {
        let mut all = Vec::new();
        let names = ["start", "end", "axis", "step"];
        for (name, number) in names.iter().zip(numbers) {
            all.push(constant(Tensor::ints(&[number]), name));
        }
        all.push(node("Slice", &["x", "start", "end", "axis", "step"], "y"));
        all
    };
    assert_eq!(message(vec![], slice([i64::MIN, i64::MAX, -1, 1])), "read");
    told(
        vec![],
        slice([0, 2, 1, i64::MIN]),
        "wanted a part that is not empty, forward",
    );
    told(
        vec![],
        slice([0, 2, i64::MIN, 1]),
        "wanted an axis that is there",
    );
}

/// Values that do not begin with the mini-batch and that many layers need are in each of these layers: not
/// as often as one likes.
#[test]
fn copies_are_counted() {
    // A large constant goes into a value that no wire can be; a thousand layers ask for it.
    let table = Tensor::floats(&[1, 1, 4000], vec![0.5; 4000]);
    let mut operators = vec![constant(table, "table")];
    operators.push(constant(Tensor::ints(&[0]), "front"));
    operators.push(node("Unsqueeze", &["x", "front"], "raised"));
    operators.push(constant(Tensor::ints(&[2]), "axis"));
    operators.push(node("Unsqueeze", &["raised", "axis"], "wide"));
    operators.push(with(
        node("Transpose", &["wide"], "tall"),
        "perm",
        vec![0, 1, 3, 2],
    ));
    // [1, N, 4, 1] times [1, 1, 4000].
    operators.push(node("MatMul", &["tall", "table"], "rows"));
    let mut last = "x".to_string();
    for k in 0..1000 {
        let (sum, made) = (format!("s{k}"), format!("r{k}"));
        operators.push(with(
            node("ReduceMean", &["rows"], &sum),
            "axes",
            vec![0, 3],
        ));
        operators
            .last_mut()
            .unwrap()
            .attributes
            .insert("keepdims".into(), 0.into());
        operators.push(node("Add", &[&last, &sum], &made));
        last = made;
    }
    operators.push(node("Relu", &[&last], "y"));
    let message = message(vec![], operators);
    assert!(message.contains("a part of many layers"), "{message}");
}

/// Whoever has rows knows nothing of images.
#[test]
fn windows_over_rows_are_told_of_as_such() {
    let port = |name: &str| Port {
        name: name.into(),
        integers: false,
        extents: vec![3, 9],
    };
    let told = |operator: Operator, filters: [usize; 3]| {
        let weights = vec![0.5; filters.iter().product()];
        let network = Network {
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            weights: vec![("w".into(), Tensor::floats(&filters, weights))],
            operators: vec![operator],
        };
        read(&onnx::to_bytes(&network)).unwrap_err()
    };
    let ints = |values: &[i64]| Attribute::Ints(values.to_vec());
    let pool =
        |kind: &str, kernel: i64| with(node(kind, &["x"], "y"), "kernel_shape", ints(&[kernel]));
    let conv = |kind: &str| node(kind, &["x", "w"], "y");
    let plain = [4, 3, 2];
    for (told, wanted) in [
        (
            told(conv("Conv"), [4, 3, 12]),
            "a window that reaches over 12, length 9",
        ),
        (
            told(with(conv("Conv"), "pads", ints(&[1, 0])), [4, 3, 12]),
            "a window that reaches over 12, length 10",
        ),
        (
            told(conv("Conv"), [4, 2, 2]),
            "filters over 2 channels, rows of 3 channels",
        ),
        (
            told(with(conv("Conv"), "strides", ints(&[0])), plain),
            "conv1d, stride along length: found 0",
        ),
        (
            told(
                with(conv("ConvTranspose"), "pads", ints(&[9, 9])),
                [3, 4, 2],
            ),
            "padding 9 of length 10",
        ),
        (
            told(pool("MaxPool", 12), plain),
            "a window that reaches over 12, length 9",
        ),
        (
            told(pool("AveragePool", 0), plain),
            "kernel along length: found 0",
        ),
    ] {
        assert!(told.contains(wanted), "{told}");
        assert!(!told.contains("2d") && !told.contains("image"), "{told}");
    }
}
