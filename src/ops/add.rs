//! placeholder for compile; real one comes from the helper
#![allow(missing_docs)]
use super::*;
#[derive(Debug)]
pub struct Add;
impl Op for Add {
    fn name(&self) -> &'static str { "add" }
    fn infer(&self, i: &[Type]) -> Result<Vec<Type>> { Ok(vec![i[0].clone()]) }
    fn lower(&self, _: &[Type], _: &[Type]) -> Option<Lowered> { None }
}
pub static KERNELS: &[&Kernel] = &[];
pub fn cases() -> Vec<Case> { vec![] }
