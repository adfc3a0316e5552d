//! Which layer of this crate an operator is. What is none stays an operator.

use serde_json::{Map, Value as Json, json};

use super::survey::Survey;
use crate::interchange::{Attribute, Numbers, Operator};
use crate::shape::DType;

/// A layer that operators are.
pub(super) struct Standard {
    pub kind: &'static str,
    pub settings: Map<String, Json>,
    /// The values that are its inputs.
    pub inputs: Vec<String>,
    /// The value that is its output.
    pub output: String,
    /// Weights: their names in the file, what the layer calls them, whether their axes are swapped.
    pub weights: Vec<(String, &'static str, bool)>,
    /// Operators behind it that it takes in.
    pub also: Vec<usize>,
}

/// A float as it was written in decimals: 0.00001 and not the f64 nearest to the f32.
fn float(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

struct Look<'a> {
    survey: &'a Survey<'a>,
    operator: &'a Operator,
}

impl Look<'_> {
    fn input(&self, k: usize) -> Option<&str> {
        let name = self.operator.inputs.get(k)?;
        (!name.is_empty()).then_some(name)
    }

    /// An example's extents of an input that goes from layer to layer.
    fn example(&self, k: usize) -> Option<Vec<usize>> {
        self.survey.example(self.input(k)?, DType::F32)
    }

    /// An example's extents of the output.
    fn made(&self) -> Option<Vec<usize>> {
        self.survey
            .example(self.operator.outputs.first()?, DType::F32)
    }

    /// The extents of an input that is a weight.
    fn weight(&self, k: usize) -> Option<&[usize]> {
        Some(&self.survey.weight(self.input(k)?)?.extents)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        match self.operator.attributes.get(name) {
            Some(Attribute::Int(value)) => *value,
            _ => default,
        }
    }

    fn float(&self, name: &str, default: f64) -> f64 {
        match self.operator.attributes.get(name) {
            Some(Attribute::Float(value)) => float(*value),
            _ => default,
        }
    }

    fn pair(&self, name: &str, default: usize) -> Option<[usize; 2]> {
        match self.operator.attributes.get(name) {
            None => Some([default; 2]),
            Some(Attribute::Ints(values)) => match values[..] {
                [a, b] => Some([usize::try_from(a).ok()?, usize::try_from(b).ok()?]),
                [a, b, c, d] if [a, b] == [c, d] => {
                    Some([usize::try_from(a).ok()?, usize::try_from(b).ok()?])
                }
                _ => None,
            },
            Some(_) => None,
        }
    }

    /// What a window's attribute says: two numbers of images, one of rows.
    fn sizes(&self, name: &str, default: usize, rows: bool) -> Option<Json> {
        if !rows {
            return Some(json!(self.pair(name, default)?));
        }
        match self.operator.attributes.get(name) {
            None => Some(json!(default)),
            Some(Attribute::Ints(values)) => match values[..] {
                [a] => Some(json!(usize::try_from(a).ok()?)),
                [a, b] if a == b && name == "pads" => Some(json!(usize::try_from(a).ok()?)),
                _ => None,
            },
            Some(_) => None,
        }
    }

    fn named(&self, known: &[&str]) -> bool {
        let mut names = self.operator.attributes.keys();
        names.all(|name| known.contains(&name.as_str()))
    }

    /// A known number.
    fn number(&self, k: usize) -> Option<f32> {
        match &self.survey.numbers(self.input(k)?)?.numbers {
            Numbers::F32(numbers) if numbers.len() == 1 => Some(numbers[0]),
            _ => None,
        }
    }

    /// A layer over the first input.
    fn over(&self, kind: &'static str, settings: Json) -> Option<Standard> {
        let settings = match settings {
            Json::Object(settings) => settings,
            _ => Map::new(),
        };
        Some(Standard {
            kind,
            settings,
            inputs: vec![self.input(0)?.into()],
            output: self.operator.outputs.first()?.clone(),
            weights: vec![],
            also: vec![],
        })
    }

    fn with(&self, mut layer: Standard, weights: &[(usize, &'static str)]) -> Option<Standard> {
        for (input, name) in weights {
            layer
                .weights
                .push((self.input(*input)?.into(), name, false));
        }
        Some(layer)
    }

    fn window(&self, rows: bool) -> Option<Map<String, Json>> {
        let auto = self.operator.attributes.get("auto_pad");
        if !auto.is_none_or(|auto| *auto == Attribute::Text("NOTSET".into())) {
            return None;
        }
        let (stride, padding) = (
            self.sizes("strides", 1, rows)?,
            self.sizes("pads", 0, rows)?,
        );
        match json!({"stride": stride, "padding": padding}) {
            Json::Object(settings) => Some(settings),
            _ => None,
        }
    }

    fn convolution(&self) -> Option<Standard> {
        let (_, w) = (self.example(0)?, self.weight(1)?);
        let (first, second, kernel) = match w {
            [first, second, h, w] => (first, second, json!([h, w])),
            [first, second, l] => (first, second, json!(l)),
            _ => return None,
        };
        let rows = w.len() == 3;
        let groups = usize::try_from(self.int("group", 1)).ok()?;
        let transposed = self.operator.kind == "ConvTranspose";
        let filters = if transposed {
            second.checked_mul(groups)?
        } else {
            *first
        };
        let mut settings = self.window(rows)?;
        let bias = self.input(2).is_some();
        settings.insert("filters".into(), filters.into());
        settings.insert("kernel".into(), kernel);
        settings.insert("dilation".into(), self.sizes("dilations", 1, rows)?);
        settings.insert("groups".into(), groups.into());
        settings.insert("bias".into(), bias.into());
        if transposed {
            let more = self.sizes("output_padding", 0, rows)?;
            settings.insert("output_padding".into(), more);
        }
        if bias && self.weight(2)? != [filters] {
            return None;
        }
        let kind = match (transposed, rows) {
            (true, false) => "conv_transpose2d",
            (true, true) => "conv_transpose1d",
            (false, false) => "conv2d",
            (false, true) => "conv1d",
        };
        let layer = self.over(kind, Json::Object(settings))?;
        let weights = [(1, "weight"), (2, "bias")];
        self.with(layer, &weights[..1 + usize::from(bias)])
    }

    fn pool(&self, [of_images, of_rows]: [&'static str; 2]) -> Option<Standard> {
        let rows = self.example(0)?.len() == 2;
        let known = [
            "ceil_mode",
            "count_include_pad",
            "dilations",
            "kernel_shape",
            "pads",
            "strides",
        ];
        let dilated = match self.operator.attributes.get("dilations") {
            Some(Attribute::Ints(values)) => values.iter().any(|d| *d != 1),
            _ => false,
        };
        if !self.named(&known) || dilated || self.int("ceil_mode", 0) != 0 {
            return None;
        }
        let mut settings = self.window(rows)?;
        settings.insert("kernel".into(), self.sizes("kernel_shape", 1, rows)?);
        // In a layer's mean the zeros around count.
        let padded = self.operator.attributes.get("pads");
        let padded = padded.is_some_and(
            |pads| !matches!(pads, Attribute::Ints(all) if all.iter().all(|p| *p == 0)),
        );
        let mean = self.operator.kind == "AveragePool";
        if mean && padded && self.int("count_include_pad", 0) == 0 {
            return None;
        }
        self.over(
            if rows { of_rows } else { of_images },
            Json::Object(settings),
        )
    }

    /// x Wᵀ + b of rows: `Gemm`.
    fn gemm(&self) -> Option<Standard> {
        let (x, w) = (self.example(0)?, self.weight(1)?);
        let scales = [self.float("alpha", 1.0), self.float("beta", 1.0)];
        if x.len() != 1 || scales != [1.0, 1.0] || self.int("transA", 0) != 0 {
            return None;
        }
        self.dense(
            w,
            self.int("transB", 0) == 0,
            self.input(2).map(|_| self.weight(2)),
        )
    }

    fn dense(&self, w: &[usize], turned: bool, bias: Option<Option<&[usize]>>) -> Option<Standard> {
        let [a, b] = w else { return None };
        // `in_proj_weight` is one of a module that has others, and keeps its name.
        let name = self.input(1)?.rsplit('.').next()?;
        if name.ends_with("_weight") {
            return None;
        }
        let units = if turned { *b } else { *a };
        let mut layer = self.over("dense", json!({"units": units, "bias": bias.is_some()}))?;
        layer
            .weights
            .push((self.input(1)?.into(), "weight", turned));
        match bias {
            None => Some(layer),
            Some(Some(bias)) if bias == [units] => {
                layer.weights.push((self.input(2)?.into(), "bias", false));
                Some(layer)
            }
            Some(_) => None,
        }
    }

    /// x W, and what is added to it at once.
    fn matmul(&self) -> Option<Standard> {
        let (_, w) = (self.example(0)?, self.weight(1)?);
        let mut layer = self.dense(w, true, None)?;
        if let Some((number, add)) = self.survey.reader(&layer.output)
            && add.kind == "Add"
            && let Some(bias) = add.inputs.iter().find(|name| **name != layer.output)
            && self
                .survey
                .weight(bias)
                .is_some_and(|bias| bias.extents == w[1..])
        {
            layer.settings.insert("bias".into(), true.into());
            layer.weights.push((bias.clone(), "bias", false));
            layer.also.push(number);
            layer.output.clone_from(&add.outputs[0]);
        }
        Some(layer)
    }

    /// Rows of all examples made one list, multiplied, and made rows of each example again; or other
    /// extents of an example.
    fn reshape(&self) -> Option<Standard> {
        let own = self.example(0)?;
        let output = self.operator.outputs.first()?;
        if let Some((first, gemm)) = self.survey.reader(output)
            && gemm.kind == "Gemm"
            && gemm.inputs.first() == Some(output)
            && let Some((second, back)) = self.survey.reader(gemm.outputs.first()?)
            && back.kind == "Reshape"
            && own.len() > 1
        {
            let look = Look {
                survey: self.survey,
                operator: gemm,
            };
            let scales = [look.float("alpha", 1.0), look.float("beta", 1.0)];
            let (w, bias) = (look.weight(1)?, look.input(2).map(|_| look.weight(2)));
            let plain = scales == [1.0, 1.0] && look.int("transA", 0) == 0;
            let mut layer = look.dense(w, look.int("transB", 0) == 0, bias)?;
            let made = self.survey.example(back.outputs.first()?, DType::F32)?;
            let ([units, rows @ ..], [inner, before @ ..]) = (
                &made.iter().rev().copied().collect::<Vec<_>>()[..],
                &own.iter().rev().copied().collect::<Vec<_>>()[..],
            ) else {
                return None;
            };
            let fits = rows == before && w.contains(units) && w.contains(inner);
            if !(plain && fits) {
                return None;
            }
            layer.inputs = vec![self.input(0)?.into()];
            layer.output.clone_from(back.outputs.first()?);
            layer.also = vec![first, second];
            return Some(layer);
        }
        let made = self.made()?;
        match made.as_slice() {
            [_] => self.over("flatten", json!({})),
            extents => self.over("reshape", json!({"extents": extents})),
        }
    }

    fn joined(&self, kind: &'static str, settings: Json) -> Option<Standard> {
        let mut layer = self.over(kind, settings)?;
        layer.inputs = self.operator.inputs.clone();
        Some(layer)
    }

    fn of_kind(&self) -> Option<Standard> {
        let operator = self.operator;
        match operator.kind.as_str() {
            "Gemm" => self.gemm(),
            "MatMul" => self.matmul(),
            "Conv" | "ConvTranspose" => self.convolution(),
            "BatchNormalization" => {
                self.example(0)?;
                for k in 1..5 {
                    self.weight(k)?;
                }
                let (epsilon, momentum) =
                    (self.float("epsilon", 1e-5), self.float("momentum", 0.9));
                // As decimals: 1 - 0.9 is not 0.1.
                let momentum = (1e6 * (1.0 - momentum)).round() / 1e6;
                let settings = json!({"epsilon": epsilon, "momentum": momentum});
                let names = [
                    (1, "weight"),
                    (2, "bias"),
                    (3, "running_mean"),
                    (4, "running_var"),
                ];
                self.with(self.over("batch_norm", settings)?, &names)
            }
            "LayerNormalization" => {
                let (rank, scale) = (self.example(0)?.len() as i64 + 1, self.weight(1)?.len());
                let axis = self.int("axis", -1);
                let axes = if axis < 0 { -axis } else { rank - axis };
                if self.weight(2)?.len() != scale || axes != scale as i64 || axes >= rank {
                    return None;
                }
                let settings = json!({"axes": axes, "epsilon": self.float("epsilon", 1e-5)});
                self.with(
                    self.over("layer_norm", settings)?,
                    &[(1, "weight"), (2, "bias")],
                )
            }
            "InstanceNormalization" => {
                self.example(0)?;
                self.weight(1).and(self.weight(2))?;
                let settings = json!({"epsilon": self.float("epsilon", 1e-5)});
                self.with(
                    self.over("instance_norm", settings)?,
                    &[(1, "weight"), (2, "bias")],
                )
            }
            "LRN" => {
                self.example(0)?;
                let settings = json!({
                    "size": self.int("size", 1),
                    "alpha": self.float("alpha", 1e-4),
                    "beta": self.float("beta", 0.75),
                    "k": self.float("bias", 1.0),
                });
                self.over("local_response_norm", settings)
            }
            "Gather" if self.int("axis", 0) == 0 => {
                let table = self.weight(0)?;
                self.survey.example(self.input(1)?, DType::U32)?;
                let [rows, width] = table else { return None };
                let mut layer = self.over("embedding", json!({"rows": rows, "width": width}))?;
                layer.inputs = vec![self.input(1)?.into()];
                self.with(layer, &[(0, "weight")])
            }
            "MaxPool" => self.pool(["max_pool2d", "max_pool1d"]),
            "AveragePool" => self.pool(["avg_pool2d", "avg_pool1d"]),
            "GlobalAveragePool" => match self.example(0)?.len() {
                2 => self.over("adaptive_avg_pool1d", json!({"size": 1})),
                _ => self.over("adaptive_avg_pool2d", json!({"size": [1, 1]})),
            },
            "ReduceMean" => {
                let rank = self.example(0)?.len() as i64 + 1;
                let all = Attribute::Ints((2..rank).collect());
                let behind = rank > 2 && operator.attributes.get("axes") == Some(&all);
                match behind && self.int("keepdims", 1) == 0 {
                    true => self.over("global_mean", json!({})),
                    false => None,
                }
            }
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(),
            "Resize" => {
                let (from, to) = (self.example(0)?, self.made()?);
                let ([_, h, w], [_, tall, wide]) = (&from[..], &to[..]) else {
                    return None;
                };
                let factor = tall / h;
                let linear = operator.attributes.get("mode") == Some(&"linear".into());
                match [factor * h, factor * w] == [*tall, *wide] {
                    true => self.over("upsample", json!({"factor": factor, "bilinear": linear})),
                    false => None,
                }
            }
            "Add" | "Sub" | "Mul" => {
                let (a, b) = (self.example(0)?, self.example(1)?);
                let kind = match operator.kind.as_str() {
                    "Add" => "sum",
                    "Sub" => "difference",
                    _ => "product",
                };
                match a.len() == b.len() {
                    true => self.joined(kind, json!({})),
                    false => None,
                }
            }
            "Concat" => {
                let rank = self.example(0)?.len() as i64 + 1;
                for k in 1..operator.inputs.len() {
                    self.example(k)?;
                }
                let axis = self.int("axis", 0);
                let axis = if axis < 0 { axis + rank } else { axis };
                match axis > 0 {
                    true => self.joined("concat", json!({"axis": axis - 1})),
                    false => None,
                }
            }
            "Softmax" | "LogSoftmax" => {
                let rank = self.example(0)?.len() as i64 + 1;
                let axis = self.int("axis", -1);
                let last = rank > 1 && (axis == -1 || axis == rank - 1);
                match (last, operator.kind.as_str()) {
                    (true, "Softmax") => self.over("softmax", json!({})),
                    (true, _) => self.over("log_softmax", json!({})),
                    (false, _) => None,
                }
            }
            _ => self.activation(),
        }
    }

    fn activation(&self) -> Option<Standard> {
        self.example(0)?;
        let bare = self.operator.attributes.is_empty();
        let kind = match self.operator.kind.as_str() {
            "Relu" => "relu",
            "Sigmoid" => "sigmoid",
            "Tanh" => "tanh",
            "Softplus" => "softplus",
            "Softsign" => "softsign",
            "HardSwish" => "hard_swish",
            "Selu" if bare => "selu",
            "HardSigmoid" => {
                let sixth = self.float("alpha", 0.2) as f32 == 1.0f32 / 6.0;
                match sixth && self.float("beta", 0.5) == 0.5 {
                    true => "hard_sigmoid",
                    false => return None,
                }
            }
            "Clip" => match (self.number(1)?, self.number(2)?) {
                (0.0, 6.0) => "relu6",
                (-1.0, 1.0) => "hard_tanh",
                _ => return None,
            },
            "LeakyRelu" => {
                let settings = json!({"slope": self.float("alpha", 0.01)});
                return self.over("leaky_relu", settings);
            }
            "Elu" => return self.over("elu", json!({"alpha": self.float("alpha", 1.0)})),
            _ => return None,
        };
        self.over(kind, json!({}))
    }
}

/// The layer that an operator is, perhaps with some behind it.
pub(super) fn standard(survey: &Survey<'_>, operator: &Operator) -> Option<Standard> {
    Look { survey, operator }.of_kind()
}
