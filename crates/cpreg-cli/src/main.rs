//! The command `cpreg`.
fn main() {}
