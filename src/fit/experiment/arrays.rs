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
        // What cannot be read is no column: where it is wanted, that is said.
        let inputs = self.model.inputs.iter().map(|input| input.name.as_str());
        let mut wanted: Vec<&str> = inputs.collect();
        if wanted.is_empty() {
            wanted.push("input");
        }
        match self.loss.against.is_empty() {
            true => wanted.push("target"),
            false => wanted.extend(self.loss.against.iter().map(String::as_str)),
        }
        if setting.columns.is_empty() {
            wanted.iter().try_for_each(|name| arrays.readable(name))?;
        }
        let data = arrays.dataset(&named)?;
        let rows = data.rows();
        let data = data.of_file(0..rows);
        let mut schema = ArraySchema::default();
        for ((_, array), column) in named.iter().zip(data.columns()) {
            schema.inputs.push(ArrayColumn::of(array, column));
        }
        let parts = match setting.stratified {
            false => data.split(&setting.split, setting.seed)?,
            true => {
                let by = self.loss.against.first().map_or("target", String::as_str);
                let parts = data.split_stratified(by, &setting.split, setting.seed);
                parts.map_err(|e| e.within("stratified"))?
            }
        };
        Ok((parts, Reading::Arrays(schema)))
    }
}
