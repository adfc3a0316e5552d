//! Experiments on arrays of NumPy and safetensors.

use std::path::Path;

use super::{Experiment, Reading};
use crate::data::{ArrayColumn, ArraySchema, Arrays, Dataset};
use crate::error::Result;

impl Experiment {
    /// Training, validation and test rows.
    pub(super) fn arrays(&self, path: &Path) -> Result<(Vec<Dataset>, Reading)> {
        let setting = &self.data;
        let arrays = Arrays::read(path)?;
        let named: Vec<(&str, &str)> = match setting.columns.is_empty() {
            true => arrays.extents().map(|(name, _)| (name, name)).collect(),
            false => {
                let columns = setting.columns.iter();
                columns.map(|(c, a)| (c.as_str(), a.as_str())).collect()
            }
        };
        let data = arrays.dataset(&named)?;
        let mut schema = ArraySchema::default();
        for ((_, array), column) in named.iter().zip(data.columns()) {
            schema.inputs.push(ArrayColumn::of(array, column));
        }
        let parts = match setting.stratified {
            false => data.split(&setting.split, setting.seed)?,
            true => {
                let by = self.loss.against.first().map_or("target", String::as_str);
                data.split_stratified(by, &setting.split, setting.seed)?
            }
        };
        Ok((parts, Reading::Arrays(schema)))
    }
}
