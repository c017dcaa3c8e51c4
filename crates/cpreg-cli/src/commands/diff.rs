//! `cpreg diff`.
use crate::arguments;
use crate::failure::{Failure, Status};
use crate::printer::Printer;
pub(crate) fn run(_a: &arguments::Diff, _p: &mut Printer) -> Result<Status, Failure> {
    Err(Failure::new("later"))
}
