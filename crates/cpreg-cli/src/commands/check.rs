//! `cpreg check SOURCE DEST`: will it load there? why not? what to do?

use cpreg::plan::{Check, Verdict};
use cpreg::tolerance::Tolerances;

use crate::arguments;
use crate::arguments::{Consenting, Format};
use crate::consents;
use crate::destination::{self, Named};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::Printer;
use crate::report;
use crate::report::check::{About, Answer};
use crate::report::value::Printing;

pub(crate) fn run(arguments: &arguments::Check, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.reading;
    let source = Input::open(&arguments.source, reading.verify)?;
    let named = destination::resolve(&arguments.dest, &arguments.going, reading.verify)?;
    let printing = Printing::new(named.destination.accelerator, reading.secrets);
    let tolerances = consents::tolerances(&arguments.consenting.tolerances)?;
    let answer = answer(
        &source,
        &named,
        &tolerances,
        &arguments.consenting,
        printing,
    )?;
    match reading.format {
        Format::Text => report::text::print(printer, &answer, arguments.all),
        Format::Json => {
            let json = report::json::report(&answer);
            printer.raw(&json.map_err(|error| Failure::new("cannot report").because(error))?);
        }
    }
    Ok(status(answer.verdict()))
}

/// Plans, for `check` and `convert` alike.
pub(crate) fn answer<'a>(
    source: &Input,
    named: &'a Named,
    tolerances: &'a Tolerances,
    consenting: &Consenting,
    printing: Printing,
) -> Result<Answer<'a>, Failure> {
    let consents = consents::read(consenting, printing.naming)?;
    let stream = source.stream()?;
    let vm = stream.vm().map_err(|error| {
        Failure::new(format!("cannot use {}", source.path.display())).because(error)
    })?;
    let shape = stream.shape();
    let here = destination::of_stream(source.name(), stream)?;
    if let (Some(here), Some(there)) = (here.accelerator, named.destination.accelerator)
        && here != there
    {
        return Err(Failure::new(format!(
            "{} ran under {here}, and {} is a destination under {there}",
            source.name(),
            named.destination.name
        ))
        .hint("a VM moves only between hosts that execute it the same way"));
    }
    for set in &consents.set {
        let in_vm = |id| vm.vcpus.iter().any(|vcpu| vcpu.registers.get(id).is_some());
        let there = |id| {
            let mut hosts = named.destination.vcpus.iter();
            hosts.any(|host| host.get(id).is_some())
        };
        if !in_vm(set.register) && !there(set.register) {
            return Err(Failure::new(format!(
                "--set {}: neither {} nor the destination has this register",
                set.register.display_in(printing.naming),
                source.name()
            )));
        }
    }
    Ok(Answer {
        source: About {
            name: source.name(),
            machine: shape.machine.clone(),
            vcpus: shape.vcpus,
            accelerator: here.accelerator,
            run_state: stream.run_state().map(str::to_owned),
            opened: stream.opened().to_string(),
        },
        destination: &named.destination,
        evidence: named.evidence,
        tolerances,
        shape: named
            .destination
            .shape
            .as_ref()
            .map(|there| shape.differences(there))
            .unwrap_or_default(),
        check: Check::new(&vm, &named.destination, tolerances, &consents),
        printing,
    })
}

/// The exit status that goes with a verdict.
pub(crate) const fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Loads | Verdict::Converts => Status::Done,
        Verdict::Refused => Status::Refused,
        Verdict::Unknown => Status::Unknown,
    }
}
