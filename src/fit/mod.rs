//! Training any [`Model`](crate::model::Model) on any [`Dataset`](crate::data::Dataset): losses, metrics, the training step, the
//! whole run, and what comes of it.

mod binary;
mod by_hand;
mod callback;
mod checkpoint;
mod class_metrics;
mod classes;
mod config;
mod cost;
mod experiment;
mod inference;
mod input_gradient;
mod joint;
mod loss;
mod measure;
mod metric;
mod mixup;
mod over;
mod pace;
mod plateau;
mod progress;
mod report;
mod resident;
mod run;
mod sample;
mod saved;
mod setup;
mod shards;
mod step;
mod trained;
mod training;
mod weights;

pub use binary::BinaryCrossEntropy;
pub use callback::{Callback, Control, EarlyStop, StepsDone};
pub use checkpoint::Checkpoints;
pub use classes::CrossEntropy;
pub use config::{LossScaleSetting, LossSetting, OptimizerSetting, ScheduleSetting, metric};
pub use experiment::{
    AugmentSetting, DataSetting, EarlyStopSetting, Experiment, Format, PlateauSetting, Prepared,
    Reading, TrainingSetting,
};
pub use inference::{Inference, Outputs};
pub use input_gradient::{Gradients, InputGradient};
pub use joint::{JointScope, JointStep, JointStepBuilder, Net, Objective};
pub use loss::{Criterion, Each, Floats, Loss};
pub use measure::Measure;
pub use metric::Metric;
pub use over::OverShards;
pub use plateau::Plateau;
pub use progress::{EverySteps, Progress, Told};
pub use report::{Epoch, Lost, Report, Scores, bare_name, is_of_one_class};
pub use run::{Fit, Outcome};
pub use sample::Sample;
#[cfg(feature = "book")]
pub(crate) use setup::{Setup, Wishes};
#[cfg(feature = "book")]
pub(crate) use shards::Given;
pub use shards::Uploads;
pub use step::{TrainStep, TrainStepBuilder};
pub use trained::{Answers, Trained};
#[cfg(feature = "book")]
pub(crate) use training::{Answered, Training};
pub use weights::Weights;
