//! The table of tolerances with the entries of the operator's files, in the order of precedence.

use std::io;
use std::path::PathBuf;

use cpreg::tolerance::{Tolerance, Tolerances};

use crate::arguments::ToleranceArgs;
use crate::default_tolerances::{Environment, VARIABLE};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::tolerance_file;

/// Returns the built-in table, preceded by the entries of the user's files and the default files.
pub(crate) fn read(arguments: &ToleranceArgs, printer: &Printer) -> Result<Tolerances, Failure> {
    let mut files: Vec<_> = arguments
        .files
        .iter()
        .cloned()
        .map(ToleranceFile::Named)
        .collect();
    if !arguments.no_default_tolerances {
        let defaults = Environment::current().default_files();
        if defaults.ignores_variable {
            printer.note(format_args!(
                "{VARIABLE} is ignored: root reads only the machine's own tolerances; \
                 --tolerances FILE adds others"
            ));
        }
        files.extend(defaults.named.into_iter().map(ToleranceFile::InVariable));
        files.extend(defaults.user.map(ToleranceFile::OfUser));
        files.push(ToleranceFile::OfMachine(defaults.system));
    }
    let mut tolerances = Tolerances::default();
    for file in files.iter().rev() {
        tolerances.add_operator_entries(file.read(printer)?);
    }
    Ok(tolerances)
}

/// File with tolerances, by the place that names it.
enum ToleranceFile {
    /// Value of `--tolerances`.
    Named(PathBuf),
    /// File in [`VARIABLE`].
    InVariable(PathBuf),
    /// Default file of the user, which need not exist.
    OfUser(PathBuf),
    /// Default file of the machine, which need not exist.
    OfMachine(PathBuf),
}

impl ToleranceFile {
    /// Returns the entries of the file.
    ///
    /// Skips a file below a home folder that the process may not read: a service may run with the
    /// environment of another user.
    fn read(&self, printer: &Printer) -> Result<Vec<Tolerance>, Failure> {
        let (Self::Named(path)
        | Self::InVariable(path)
        | Self::OfUser(path)
        | Self::OfMachine(path)) = self;
        let is_optional = matches!(self, Self::OfUser(_) | Self::OfMachine(_));
        let add_origin = |failure: Failure| match self {
            Self::Named(_) => failure,
            Self::InVariable(_) => failure.with_hint(format!(
                "{VARIABLE} names the file; --no-default-tolerances reads no such file"
            )),
            Self::OfUser(_) | Self::OfMachine(_) => failure.with_hint(
                "every command reads this file; --no-default-tolerances reads no such file",
            ),
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if is_optional && is_missing(&error) => return Ok(Vec::new()),
            Err(error)
                if matches!(self, Self::OfUser(_))
                    && error.kind() == io::ErrorKind::PermissionDenied =>
            {
                printer.note(format_args!(
                    "{} is skipped: this user may not read it",
                    path.display()
                ));
                return Ok(Vec::new());
            }
            Err(error) => return Err(add_origin(Failure::io("read", path, error))),
        };
        tolerance_file::parse(&text, path).map_err(add_origin)
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
