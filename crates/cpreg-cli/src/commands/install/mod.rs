//! `cpreg install libvirt`: installs cpreg for this host's libvirt, or removes it.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | the command |
//! | `files.rs` | the files of each part; their templates are in `files/` |
//! | `host_tools.rs` | programs that the host must have |
//! | `manifest.rs` | record of the files that cpreg wrote |
//! | `changes.rs` | changes that an installation or its removal needs, and conflicts |
//! | `tree.rs` | writing and removal of files |
//! | `services.rs` | commands for systemd |

mod changes;
mod files;
mod host_tools;
mod manifest;
mod services;
mod tree;

use std::env;
use std::path::{Path, PathBuf};

use self::changes::{Changes, Removal};
use self::files::{Content, InstalledFile, Options};
use self::host_tools::HostTools;
use self::manifest::Manifest;
use self::services::Services;
use self::tree::Tree;
use crate::arguments::{self, InstallLibvirt, InstallPart, InstallProgram};
use crate::consents;
use crate::failure::{Failure, Status};
use crate::printer::{self, Printer};

pub(crate) fn run(
    arguments: &arguments::Install,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    match &arguments.program {
        InstallProgram::Libvirt(arguments) => run_libvirt(arguments, printer),
    }
}

fn run_libvirt(arguments: &InstallLibvirt, printer: &mut Printer) -> Result<Status, Failure> {
    let parts = selected_parts(&arguments.parts);
    let tree = Tree::open(&arguments.root)?;
    let manifest = Manifest::read(&tree)?;
    if arguments.mode.remove {
        return remove(&tree, manifest, &parts, printer);
    }
    consents::reject_unreviewed(&arguments.consents, "install")?;
    let tools = HostTools::find(&tree);
    tools.require(&parts, tree.is_live())?;
    let options = Options {
        program: program(arguments)?,
        to: arguments.to.as_deref(),
        tls_creds: arguments.tls_creds.as_deref(),
        allow_no_return_path: arguments.allow_no_return_path,
        log: arguments.log.as_deref(),
        consents: &arguments.consents,
    };
    let files = files::files(&parts, &options, &tools)?;
    let changes = Changes::new(&tree, &manifest, &files)?;
    changes.print(printer);
    if parts.contains(&InstallPart::Hook) && tools.confines_hook(&options.program) {
        printer.note(format_args!(
            "if AppArmor is enabled, its profile of libvirt lets hooks start no program of this \
             folder: {}; install cpreg in /usr/bin",
            options.program.display()
        ));
    }
    let services = Services::for_changes(&changes, &tools, tree.is_live());
    if arguments.mode.print {
        services.print_after(&tree, printer);
        print_files(&files, printer);
        return Ok(Status::Success);
    }
    if changes.is_empty() {
        printer.line("nothing to do: all files are installed and current");
        return Ok(Status::Success);
    }
    services.print_after(&tree, printer);
    // The user must see the actions before they happen.
    printer::finish(printer)?;
    changes.apply(&tree, manifest)?;
    services.run(&tree)?;
    Ok(Status::Success)
}

/// Returns the parts that the user selected, or all parts.
fn selected_parts(parts: &[InstallPart]) -> Vec<InstallPart> {
    let mut parts = match parts {
        [] => vec![InstallPart::Hook, InstallPart::Relay],
        parts => parts.to_vec(),
    };
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// Returns the path of cpreg for scripts and units.
fn program(arguments: &InstallLibvirt) -> Result<PathBuf, Failure> {
    let program = match &arguments.program {
        Some(path) => path.clone(),
        None => env::current_exe().map_err(|error| {
            Failure::new("cannot determine the path of cpreg")
                .with_cause(error)
                .with_hint("name it with --program PATH")
        })?,
    };
    if program.is_absolute() {
        return Ok(program);
    }
    Err(Failure::new(format!(
        "--program {}: the path is not absolute",
        program.display()
    )))
}

fn print_files(files: &[InstalledFile], printer: &mut Printer) {
    for file in files {
        if let Content::Text { text, .. } = &file.content {
            printer.line("");
            printer.line(format_args!(
                "# {}",
                Path::new("/").join(file.path).display()
            ));
            for line in text.lines() {
                // A tab is a control character to the printer.
                printer.line(line.replace('\t', "    "));
            }
        }
    }
}

fn remove(
    tree: &Tree,
    manifest: Manifest,
    parts: &[InstallPart],
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let removal = Removal::new(tree, &manifest, parts)?;
    if removal.is_empty() {
        printer.line("nothing to do: cpreg has installed nothing here");
        return Ok(Status::Success);
    }
    let services = Services::for_removal(&removal);
    services.print_before(tree, printer);
    removal.print(printer);
    services.print_after(tree, printer);
    printer::finish(printer)?;
    services.stop(tree, printer);
    removal.apply(tree, manifest)?;
    services.run(tree)?;
    Ok(Status::Success)
}
