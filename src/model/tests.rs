use super::layers::*;
use super::*;
use crate::ops::pointwise::pointwise;

fn told(model: Result<Model>) -> String {
    model.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn a_layer_that_does_not_fit_is_named_with_the_callers_line() {
    let line = line!() + 3;
    let error = told(Model::build(|m| {
        let x = m.input("image", [1, 8, 8]);
        let h = x.layer("stem", Conv2d::new(4, 9));
        m.output("logits", (h + x).relu().flatten().then(Dense::new(3)));
    }));
    let wanted = format!("layer stem (conv2d, src/model/tests.rs:{line}), ");
    assert!(error.starts_with(&wanted), "{error}");
    let chain = Model::sequential([4])
        .then(Dense::new(3))
        .layer("second", Conv2d::new(1, 1));
    let error = told(chain.then(Relu).build());
    assert!(
        error.starts_with("layer second (conv2d, src/model/tests.rs:"),
        "{error}"
    );
    assert!(error.ends_with("wanted x as [N, C, H, W]"), "{error}");
}

#[test]
fn names_are_of_one_layer_and_of_plain_letters() {
    let twice = told(Model::build(|m| {
        let x = m.input("x", [4]);
        m.output("y", x.layer("a", Dense::new(4)).layer("a", Dense::new(4)));
    }));
    assert!(
        twice.contains("`a` again") && twice.contains("Builder::shared"),
        "{twice}"
    );
    let slashed = told(Model::sequential([4]).layer("a/b", Dense::new(1)).build());
    assert!(slashed.contains("`a/b`"), "{slashed}");
    let none = told(Model::build(|m| {
        m.input("x", [4]);
    }));
    assert!(none.contains("no output"), "{none}");
    let outputs = told(Model::build(|m| {
        let x = m.input("x", [4]);
        m.output("y", x);
        m.output("y", x.relu());
    }));
    assert!(outputs.contains("output: found y"), "{outputs}");
    let zero = told(Model::sequential([4, 0]).then(Relu).build());
    assert!(zero.starts_with("input input"), "{zero}");
}

#[test]
fn wires_of_another_model_are_refused() {
    let error = told(Model::build(|outer| {
        let x = outer.input("x", [4]);
        outer.output("x", x);
        let inner = Model::build(|m| {
            m.input("x", [4]);
            m.output("y", x.relu());
            m.output("z", x);
        });
        let error = inner.unwrap_err().to_string();
        assert!(error.contains("a wire of another model"), "{error}");
        outer.output("x", x);
    }));
    assert!(error.contains("names that are used once"), "{error}");
}

#[test]
fn shared_layers_have_one_set_of_weights() {
    let twins = Model::build(|m| {
        let tower = m.shared("tower", Dense::new(5));
        let (a, b) = (
            m.input("a", [3]).shared(&tower),
            m.input("b", [3]).shared(&tower),
        );
        m.output("distance", (a - b).map(|d| d.square()));
    });
    let twins = twins.unwrap();
    assert_eq!(twins.parameters(), 3 * 5 + 5);
    let names: Vec<&str> = twins.variables().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["tower.weight", "tower.bias"]);
    assert!(
        twins.summary().contains("those of tower"),
        "{}",
        twins.summary()
    );
    let misfit = told(Model::build(|m| {
        let tower = m.shared("tower", Dense::new(5));
        let (a, b) = (
            m.input("a", [3]).shared(&tower),
            m.input("b", [4]).shared(&tower),
        );
        m.output("y", a + b);
    }));
    assert!(
        misfit.contains("as where the layer was used first"),
        "{misfit}"
    );
}

/// A layer of somebody else, with a setting.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Gain {
    start: f64,
}

impl Layer for Gain {
    fn kind(&self) -> &'static str {
        "gain"
    }

    fn forward(&self, scope: &mut Scope<'_>, inputs: &[Value]) -> Result<Value> {
        let [x] = arity("gain", inputs)?;
        let s = scope.parameter("scale", &[1], Start::constant(self.start))?;
        pointwise(scope, [x, s], |[x, s]| x * s)
    }

    fn settings(&self) -> Result<serde_json::Value> {
        layer::described(self)
    }
}

impl Described for Gain {
    const KIND: &'static str = "gain";
}

fn wide() -> Model {
    let model = Model::build(|m| {
        let x = m.input("image", [2, 8, 8]);
        let word = m.input("word", Input::u32([3]));
        let h = x.layer("stem", Conv2d::new(4, 3).padding(1).without_bias());
        let h = h.then(BatchNorm::new()).relu().then(MaxPool2d::new(2));
        let shared = m.shared("twin", Conv2d::new(4, 1));
        let h = h.shared(&shared) + h.shared(&shared).then(Gain { start: 0.5 });
        let w = word
            .then(Embedding::new(7, 4))
            .flatten()
            .then(LayerNorm::new());
        let both = h.global_mean().concat(w, 0).then(Dropout::new(0.3));
        m.output("logits", both.layer("head", Dense::new(5)));
        m.output("features", both);
    });
    model.unwrap()
}

#[test]
fn a_description_builds_the_same_model_again() {
    let model = wide();
    let json = model.to_json().unwrap();
    let registry = Registry::standard().with::<Gain>();
    let again = Model::from_json(&json, &registry).unwrap();
    assert_eq!(again.to_json().unwrap(), json);
    assert_eq!(again.summary(), model.summary());
    let names = |m: &Model| -> Vec<(String, String, Role)> {
        let all = m.variables().iter();
        all.map(|v| (v.name.clone(), v.ty.to_string(), v.role))
            .collect()
    };
    assert_eq!(names(&again), names(&model));
    let unknown = told(Model::from_json(&json, &Registry::standard()));
    assert!(unknown.contains("unknown layer `gain`"), "{unknown}");
    let wrong = json.replacen("\"start\":0.5", "\"begin\":0.5", 1);
    let wrong = told(Model::from_json(&wrong, &registry));
    assert!(wrong.contains("settings of gain"), "{wrong}");
    let closure = Model::sequential([2])
        .then(Map::new(|x| x.exp()))
        .build()
        .unwrap();
    let closure = closure.to_json().unwrap_err().to_string();
    assert!(closure.contains("description of layer map"), "{closure}");
}

#[test]
fn descriptions_need_only_say_what_is_not_usual() {
    let text = r#"{"inputs": [{"extents": [4]}], "layers": [
        {"kind": "dense", "units": 8}, {"kind": "gelu"}, {"kind": "dense", "units": 2, "name": "head"}]}"#;
    let model = Model::from_json(text, &Registry::standard()).unwrap();
    assert_eq!(model.output("output").unwrap(), &Input::f32([2]));
    let names: Vec<&str> = model.variables().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(
        names,
        ["dense.weight", "dense.bias", "head.weight", "head.bias"]
    );
    for (from, to, wanted) in [
        ("gelu", "gleu", "did you mean `gelu`"),
        ("\"units\": 8", "\"unit\": 8", "settings of dense"),
        ("\"name\": \"head\"", "\"inputs\": [\"nobody\"]", "`nobody`"),
    ] {
        let broken = text.replacen(from, to, 1);
        let error = told(Model::from_json(&broken, &Registry::standard()));
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn every_described_layer_comes_back_from_its_own_settings() {
    // Each kind that needs no settings, and one of each that does.
    let settings = |kind: &str| match kind {
        "dense" => r#"{"units": 3}"#,
        "embedding" => r#"{"rows": 3, "width": 2}"#,
        "conv2d" | "conv_transpose2d" => r#"{"filters": 3, "kernel": [1, 1]}"#,
        "max_pool2d" | "avg_pool2d" => r#"{"kernel": [1, 1]}"#,
        "conv1d" | "conv_transpose1d" => r#"{"filters": 3, "kernel": 2}"#,
        "max_pool1d" | "avg_pool1d" => r#"{"kernel": 2}"#,
        "adaptive_avg_pool1d" => r#"{"size": 2}"#,
        "adaptive_avg_pool2d" => r#"{"size": [1, 1]}"#,
        "upsample" => r#"{"factor": 2}"#,
        "group_norm" => r#"{"groups": 1}"#,
        "local_response_norm" => r#"{"size": 2}"#,
        "dropout" => r#"{"p": 0.5}"#,
        "cutout" => r#"{"size": 3}"#,
        "multi_head_attention" => r#"{"heads": 2}"#,
        "transformer_block" => r#"{"heads": 2, "feed_forward": 8}"#,
        "affine" => r#"{"scale": [2.0], "shift": [1.0]}"#,
        "reshape" => r#"{"extents": [4]}"#,
        "permute" => r#"{"axes": [1, 0]}"#,
        "slice" => r#"{"axis": 0, "start": -3, "end": 5}"#,
        "select" => r#"{"axis": 1, "index": -1}"#,
        "reduce" => r#"{"to": "log_sum_exp", "axes": [0]}"#,
        "lstm" | "gru" => r#"{"units": 3, "layers": 2, "bidirectional": true, "last": true}"#,
        "rnn" => r#"{"units": 3, "relu": true, "bias": false}"#,
        _ => "{}",
    };
    let registry = Registry::standard();
    for kind in registry.kinds() {
        let settings = serde_json::from_str(settings(kind)).unwrap();
        let layer = registry.make(kind, settings);
        let layer = layer.unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(layer.kind(), kind);
        let again = registry.make(kind, layer.settings().unwrap()).unwrap();
        assert_eq!(
            again.settings().unwrap(),
            layer.settings().unwrap(),
            "{kind}"
        );
    }
}

#[test]
fn recurrent_layers_have_pytorchs_weights() {
    let model = Model::build(|m| {
        let x = m.input("x", [7, 5]);
        m.output(
            "states",
            x.layer("a", Lstm::new(3).layers(2).bidirectional()),
        );
        m.output("last", x.layer("b", Gru::new(4).bidirectional().last()));
        m.output("plain", x.layer("c", Rnn::new(2).without_bias().relu()));
    });
    let model = model.unwrap();
    for (output, extents) in [("states", &[7, 6][..]), ("last", &[8]), ("plain", &[7, 2])] {
        assert_eq!(model.output(output).unwrap().extents, extents);
    }
    let extents = |name: &str| {
        let variable = model.variables().iter().find(|v| v.name == name);
        variable.unwrap().ty.shape.extents().to_vec()
    };
    assert_eq!(extents("a.weight_ih_l0"), [12, 5]);
    assert_eq!(extents("a.weight_hh_l0_reverse"), [12, 3]);
    assert_eq!(extents("a.weight_ih_l1_reverse"), [12, 6]);
    assert_eq!(extents("b.bias_hh_l0"), [12]);
    let of = |layer: &str| {
        let trained = model
            .variables()
            .iter()
            .filter(|v| v.role == Role::Parameter);
        trained.filter(|v| v.name.starts_with(layer)).count()
    };
    assert_eq!([of("a."), of("b."), of("c.")], [16, 8, 2]);
    let start = model.variables()[0].start.draw(&[1000], 3, 0, 0);
    let most = start.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    assert!((0.57..=0.5774).contains(&most), "{most}");
    for (layer, wanted) in [
        (Lstm::new(0), "extents"),
        (Lstm::new(2).layers(0), "layers of lstm: found 0"),
        (Lstm::new(1025), "at most 1024"),
    ] {
        let error = told(Model::sequential([7, 5]).then(layer).build());
        assert!(error.contains(wanted), "{error}");
    }
    let flat = told(Model::sequential([5]).then(Gru::new(2)).build());
    assert!(flat.contains("wanted x as [N, T, D]"), "{flat}");
}

#[test]
fn attention_holds_its_dropout_to_a_probability() {
    for p in [-0.1, f64::NAN, 1.5] {
        let attention = MultiHeadAttention::new(2).dropout(p);
        let error = told(Model::sequential([4, 8]).then(attention).build());
        assert!(error.contains("p: found"), "{error}");
    }
}
