//! A page of a run of [`Fit`](crate::fit::Fit): its test numbers, curves of every number over the epochs, the
//! confusion matrix, the model.

use std::fmt::Write as _;

use super::html::{BASE_STYLE, escaped, grouped, html_page};
use super::plot::plot_element;
use super::record::{Plot, Series};
use super::style::{dark_rules, short};
use crate::error::Result;
use crate::fit::{Epoch, Report, Scores, is_of_one_class};
use crate::model::Model;

/// Most replicas whose curves are drawn one by one beside their mean.
const MOST_REPLICAS: usize = 5;
/// Most classes of a confusion matrix that is shown.
const MOST_CLASSES: usize = 50;

/// What a page tells.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What the run is called.
    pub name: &'a str,
    /// Its numbers.
    pub report: &'a Report,
    /// What was trained.
    pub model: &'a Model,
    /// How many rows were trained on, validated on, tested on.
    pub rows: [usize; 3],
    /// What the classes are called; their numbers where there are fewer names.
    pub classes: &'a [String],
}

/// A self-contained page: no script, no second file, no network. All text is escaped. A number that is
/// not finite breaks its curve.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) if a curve cannot be drawn.
pub fn training_html(page: &Page<'_>) -> Result<String> {
    let Page {
        name,
        report,
        model,
        rows,
        classes,
    } = *page;
    let title = escaped(name);
    let mut body = format!("<header>\n<h1>{title}</h1>\n");
    let replicas = report.epochs.first().map_or(1, |e| e.training_loss.len());
    let networks = match replicas {
        1 => String::new(),
        n => format!(", {n} networks"),
    };
    let [training, validation, test] = rows.map(grouped);
    let seconds = report.epochs.last().map_or(0.0, |e| e.seconds);
    // A string takes what is written.
    let _ = write!(
        body,
        "<p>{} parameters{networks}; {}; {} epochs in {seconds:.1} s on {}.</p>\n\
         <p class=\"soft\">{training} rows for training, {validation} for validation, {test} for the \
         test.</p>\n</header>\n<main>\n",
        grouped(report.parameters),
        escaped(&report.loss),
        grouped(report.epochs.len()),
        escaped(&report.device),
    );
    add_skipped(&mut body, report);
    add_lost(&mut body, report);
    add_test(&mut body, report);
    body += "<h2>Epoch by epoch</h2>\n<div class=\"plots\">\n";
    for plot in plots(report) {
        let _ = writeln!(body, "<figure>{}</figure>", plot_element(&plot)?);
    }
    body += "</div>\n";
    add_confusion(&mut body, &counted(report), classes);
    let _ = write!(
        body,
        "<h2>The model</h2>\n<details>\n<summary>{}</summary>\n{}</details>\n</main>\n",
        layers(model),
        model.to_svg()
    );
    let styles = [BASE_STYLE, STYLE, &dark_rules()];
    Ok(html_page(&title, &styles, &body))
}

/// `1 layer`, `20 layers`.
fn layers(model: &Model) -> String {
    match model.layers() {
        1 => "1 layer".into(),
        n => format!("{} layers", grouped(n)),
    }
}

const STYLE: &str = include_str!("training.css");

/// The names of the numbers of a data set but for those of single classes.
fn names(scores: &[Scores]) -> Vec<&str> {
    let metrics = scores.first().map(|s| s.metrics.iter());
    let metrics = metrics.into_iter().flatten().map(|(name, _)| name.as_str());
    let named = metrics.filter(|name| !is_of_one_class(name));
    let loss = scores.first().map(|_| "loss");
    loss.into_iter().chain(named).collect()
}

/// How many steps each network has skipped for its loss scale, of how many.
fn add_skipped(body: &mut String, report: &Report) {
    let Some(last) = report.epochs.last() else {
        return;
    };
    if last.skipped_steps.iter().any(|&skipped| skipped > 0) {
        let each: Vec<String> = (last.skipped_steps.iter())
            .map(|&skipped| grouped(skipped as usize))
            .collect();
        let _ = writeln!(
            body,
            "<p class=\"soft\">Steps skipped, since gradients were not finite under the loss scale: {} of {}.</p>",
            each.join(", "),
            grouped(last.steps as usize)
        );
    }
}

/// The networks of a sweep that are lost.
fn add_lost(body: &mut String, report: &Report) {
    if report.lost.is_empty() {
        return;
    }
    let each = report.lost.iter().map(|lost| {
        let step = lost
            .step
            .map(|step| format!(", step {}", grouped(step as usize)));
        let (replica, epoch) = (lost.replica, grouped(lost.epoch));
        format!("{replica} (epoch {epoch}{})", step.unwrap_or_default())
    });
    let _ = writeln!(
        body,
        "<p class=\"soft\">Networks that are lost, since their loss or weights stopped being finite, and count in no mean: {}.</p>",
        each.collect::<Vec<_>>().join(", ")
    );
}

/// What the networks score on the test data, but for those that are lost.
fn counted(report: &Report) -> Vec<&Scores> {
    let all = report.test.iter().enumerate();
    let counted = all.filter(|(replica, _)| !report.is_lost(*replica));
    counted.map(|(_, scores)| scores).collect()
}

/// The test's numbers: mean and, of several replicas, deviation.
fn add_test(body: &mut String, report: &Report) {
    if report.test.is_empty() {
        return;
    }
    let _ = write!(
        body,
        "<h2>Test</h2>\n<p class=\"soft\">Weights of epoch {} of {}.</p>\n<div class=\"scroll\">\
         <table>\n<thead><tr><th></th><th>mean</th>",
        report.chosen_text(),
        report.epochs.len()
    );
    let counted = counted(report);
    let several = counted.len() > 1;
    *body += if several { "<th>deviation</th>" } else { "" };
    *body += "</tr></thead>\n<tbody>\n";
    for name in names(&report.test) {
        let values = counted.iter().filter_map(|s| s.get(name));
        let values: Vec<f64> = values.collect();
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let _ = write!(
            body,
            "<tr><th>{}</th><td>{}</td>",
            escaped(name),
            number(mean)
        );
        if several {
            let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            let deviation = (squares / (values.len() - 1).max(1) as f64).sqrt();
            let _ = write!(body, "<td>± {}</td>", number(deviation));
        }
        *body += "</tr>\n";
    }
    *body += "</tbody></table></div>\n";
}

/// Four digits behind the point; more where a number is small.
fn number(x: f64) -> String {
    match x.abs() {
        small if small > 0.0 && small < 1e-3 => format!("{x:.3e}"),
        large if large >= 1e7 => format!("{x:.4e}"),
        _ => format!("{x:.4}"),
    }
}

/// The loss of training and validation, then each metric of the validation.
fn plots(report: &Report) -> Vec<Plot> {
    let plot = |title: &str, series: Vec<Series>| Plot {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: title.into(),
        log_x: false,
        log_y: false,
        series,
    };
    let epochs = || report.epochs.iter();
    let of = |name: &str, points: Vec<(f64, f64)>| Series {
        name: name.into(),
        book: false,
        points,
    };
    let place = |epoch: usize| epoch as f64;
    let curve = |name: &str, get: &str| {
        let points = epochs().filter_map(|e| Some((place(e.epoch), e.get(get)?)));
        of(name, points.collect())
    };
    let mut losses = vec![curve("training", "training loss")];
    // Not after every epoch, perhaps.
    let evaluated =
        |of: fn(&Epoch) -> &[Scores]| epochs().map(of).find(|scores| !scores.is_empty());
    let trained = evaluated(|e| &e.training).unwrap_or_default();
    if !trained.is_empty() {
        losses.push(curve("training set", "training set loss"));
    }
    let validated = evaluated(|e| &e.validation).unwrap_or_default();
    if !validated.is_empty() {
        losses.push(curve("validation", "validation loss"));
    }
    let mut plots = vec![plot("loss", losses)];
    let measured = if validated.is_empty() {
        trained
    } else {
        validated
    };
    for name in names(measured).into_iter().filter(|name| *name != "loss") {
        let mut series = vec![];
        if !validated.is_empty() {
            series.push(curve("validation", &format!("validation {name}")));
        }
        if trained.iter().any(|scores| scores.get(name).is_some()) {
            series.push(curve("training set", &format!("training set {name}")));
        }
        let replicas = validated.len();
        if (2..=MOST_REPLICAS).contains(&replicas) {
            series[0].name = "mean".into();
            for replica in 0..replicas {
                let value = |scores: &[Scores]| scores.get(replica).and_then(|s| s.get(name));
                let points = epochs().filter_map(|e| Some((place(e.epoch), value(&e.validation)?)));
                series.push(of(&format!("network {replica}"), points.collect()));
            }
        }
        let title = match validated.is_empty() {
            true => format!("training set {name}"),
            false => format!("validation {name}"),
        };
        plots.push(plot(&title, series));
    }
    plots
}

/// How often class t was taken for class y, over all replicas, if that was counted.
fn add_confusion(body: &mut String, test: &[&Scores], classes: &[String]) {
    let cells = |scores: &Scores, t: usize, y: usize| scores.get(&format!("confusion {t} {y}"));
    let Some(first) = test.first() else {
        return;
    };
    let k = (0..).take_while(|&c| cells(first, c, c).is_some()).count();
    if !(1..=MOST_CLASSES).contains(&k) {
        return;
    }
    let class = |c: usize| match classes.get(c) {
        Some(name) => escaped(&short(name, 24)),
        None => c.to_string(),
    };
    *body += "<h2>Confusion</h2>\n<p class=\"soft\">Rows: what it is. Columns: what the model says. \
              Test rows, ";
    *body += match test.len() {
        1 => "counted once.</p>\n",
        _ => "once for each network.</p>\n",
    };
    *body += "<div class=\"scroll\"><table class=\"confusion\">\n<thead><tr><th></th>";
    for y in 0..k {
        let _ = write!(body, "<th>{}</th>", class(y));
    }
    *body += "</tr></thead>\n<tbody>\n";
    for t in 0..k {
        let row = (0..k).map(|y| test.iter().filter_map(|s| cells(s, t, y)).sum());
        let row: Vec<f64> = row.collect();
        let all = row.iter().sum::<f64>().max(1.0);
        let _ = write!(body, "<tr><th>{}</th>", class(t));
        for count in row {
            let share = 0.8 * count / all;
            let _ = write!(body, "<td style=\"--share: {share:.3}\">{count:.0}</td>");
        }
        *body += "</tr>\n";
    }
    *body += "</tbody></table></div>\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::Lost;
    use crate::model::layers::*;

    fn scores(loss: f64, accuracy: f64) -> Scores {
        let cells = [[5.0, 1.0], [2.0, 12345.0]];
        let cells = (0..4).map(|c| {
            let (t, y) = (c / 2, c % 2);
            (format!("confusion {t} {y}"), cells[t][y])
        });
        let named = [("accuracy", accuracy), ("top 3", 0.75), ("recall 1", 0.5)];
        let named = named.map(|(name, value)| (name.to_string(), value));
        Scores {
            loss,
            metrics: named.into_iter().chain(cells).collect(),
        }
    }

    fn report(replicas: usize) -> Report {
        let epoch = |epoch: usize| Epoch {
            epoch,
            steps: 10 * epoch as u64,
            training_loss: vec![1.0 / epoch as f64; replicas],
            lost: vec![],
            skipped_steps: vec![],
            validation: (0..replicas)
                .map(|r| scores(0.5, 0.5 + 0.1 * r as f64))
                .collect(),
            training: vec![],
            seconds: epoch as f64,
        };
        Report {
            device: "a <device>".into(),
            loss: "cross_entropy".into(),
            parameters: 1234,
            epochs: (1..=3).map(epoch).collect(),
            chosen_epochs: vec![2; replicas],
            lost: vec![],
            test: (0..replicas)
                .map(|r| scores(0.25, 0.75 + 0.5 * r as f64))
                .collect(),
        }
    }

    fn page(report: &Report) -> String {
        let model = Model::sequential([4]).then(Dense::new(2)).build().unwrap();
        let page = Page {
            name: "a & <b>",
            report,
            model: &model,
            rows: [12_000, 30, 40],
            classes: &["<cat>".into()],
        };
        training_html(&page).unwrap()
    }

    #[test]
    fn a_page_tells_every_number_once_and_needs_nothing_else() {
        let html = page(&report(1));
        assert!(html.contains("<h1>a &amp; &lt;b&gt;</h1>") && html.contains("a &lt;device&gt;"));
        assert!(html.contains("1,234 parameters; cross_entropy; 3 epochs in 3.0 s"));
        assert!(html.contains("12,000 rows for training, 30 for validation, 40 for the test"));
        assert!(html.contains("Weights of epoch 2 of 3."));
        assert!(html.contains("<tr><th>loss</th><td>0.2500</td></tr>"));
        assert!(html.contains("<tr><th>accuracy</th><td>0.7500</td></tr>"));
        // Of single classes nothing but the matrix, whose second class has no name.
        assert!(
            html.contains("top 3") && !html.contains("recall 1") && !html.contains("confusion 0")
        );
        assert!(html.contains("<tr><th>1</th><td style=\"--share: 0.000\">2</td>"));
        assert!(html.contains("<tr><th>&lt;cat&gt;</th><td style=\"--share: 0.667\">5</td>"));
        // Loss, accuracy, top 3; and the model.
        assert_eq!(html.matches("<svg").count(), 4);
        assert!(html.contains("<summary>1 layer</summary>"));
        for outside in ["https:", "<script", "<link", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn skipped_steps_are_told() {
        let mut report = report(2);
        assert!(!page(&report).contains("skipped"));
        report.epochs[2].skipped_steps = vec![0, 7];
        assert!(page(&report).contains("under the loss scale: 0, 7 of 30."));
    }

    #[test]
    fn lost_networks_are_told_and_count_in_no_mean() {
        let mut report = report(3);
        assert!(!page(&report).contains("lost"));
        report.lost = vec![Lost {
            replica: 2,
            epoch: 2,
            step: Some(1234),
        }];
        for epoch in &mut report.epochs[1..] {
            epoch.lost = vec![2];
            (epoch.training_loss[2], epoch.validation[2]) = (f64::NAN, scores(f64::NAN, f64::NAN));
        }
        report.test[2] = scores(f64::NAN, f64::NAN);
        let html = page(&report);
        assert!(html.contains("count in no mean: 2 (epoch 2, step 1,234)."));
        assert!(html.contains("<tr><th>accuracy</th><td>1.0000</td><td>± 0.3536</td></tr>"));
        assert!(html.contains(">24690</td>"));
        assert!(html.contains("network 2") && !html.contains("NaN"));
    }

    #[test]
    fn replicas_have_a_mean_a_deviation_and_curves_of_their_own() {
        let html = page(&report(2));
        assert!(html.contains("1,234 parameters, 2 networks;"));
        assert!(html.contains("<tr><th>accuracy</th><td>1.0000</td><td>± 0.3536</td></tr>"));
        assert!(html.contains("network 1"));
        assert!(html.contains(">24690</td>"));
        assert!(!page(&report(6)).contains("network 1"));
    }

    #[test]
    fn what_the_training_data_score_has_curves() {
        let mut report = report(1);
        for epoch in &mut report.epochs {
            epoch.training = std::mem::take(&mut epoch.validation);
        }
        let html = page(&report);
        assert!(html.contains("training set accuracy"));
        assert!(!html.contains("validation accuracy"));
    }

    #[test]
    fn a_run_without_validation_test_or_finite_numbers_has_a_page() {
        let mut report = report(1);
        report.test.clear();
        for epoch in &mut report.epochs {
            epoch.validation.clear();
        }
        report.epochs[1].training_loss = vec![f64::NAN];
        let html = page(&report);
        assert!(!html.contains("<h2>Test</h2>") && !html.contains("Confusion"));
        assert_eq!(html.matches("<svg").count(), 2);
    }
}
