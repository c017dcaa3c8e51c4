//! QEMUs of an emulated host that `cpreg run` starts: the programs that a job needs, and the lines
//! of its script.

use std::fs;
use std::path::PathBuf;

use crate::fingerprint::fingerprint;
use e2e_framework::Result;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::{Job, shell_quote};

/// cpreg for arm64, and the library that it preloads.
#[derive(Clone, Debug)]
pub(crate) struct RunPrograms {
    cpreg: PathBuf,
    library: PathBuf,
    /// Fingerprint of both files.
    pub(crate) fingerprint: String,
}

impl RunPrograms {
    /// Builds the programs.
    ///
    /// # Errors
    /// Returns an error if a program does not build.
    pub(crate) fn build(lab: &Lab) -> Result<Self> {
        let cpreg = lab.build_programs(&["cpreg-cli"])?.join("cpreg");
        let library = lab.build_library("cpreg-interpose")?;
        let mut contents = fs::read(&cpreg)?;
        contents.extend(fs::read(&library)?);
        Ok(Self {
            cpreg,
            library,
            fingerprint: fingerprint(&contents),
        })
    }

    /// Adds the programs to a job.
    pub(crate) fn add_to(&self, job: &mut Job) {
        for program in [&self.cpreg, &self.library] {
            if !job.programs.contains(program) {
                job.programs.push(program.clone());
            }
        }
    }
}

/// Returns lines of a script whose QEMUs have these additional options.
pub(crate) fn lines_with_options(options: &str, lines: &str) -> String {
    format!("arguments={}\n{lines}arguments=\n", shell_quote(options))
}

/// Returns lines of a script whose QEMUs `cpreg run` starts with these options. No option has a
/// blank.
pub(crate) fn lines_with_run(options: &[String], lines: &str) -> String {
    let mut words = vec!["/job/bin/cpreg", "run"];
    words.extend(options.iter().map(String::as_str));
    words.push("--");
    format!(
        "through={}\n{lines}through=\n",
        shell_quote(&words.join(" "))
    )
}
