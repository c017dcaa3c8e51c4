//! Settings as options of QEMU and as elements of a libvirt domain.
//!
//! | setting | option | versions |
//! |---|---|---|
//! | no PMU | `pmu=off`, `<pmu state='off'/>` | all |
//! | no SVE, vector lengths | `sve=off`, `sve<N>=on` | 5.0 and later |
//! | no pointer authentication | `pauth=off` | 7.0 and later; before, KVM guests have none |
//! | PSCI_VERSION | `kvm-psci-version=M.m` | 11.0 and later |
//! | fields of ID registers and CTR_EL0 | `SYSREG_<REG>_<FIELD>=V` | none; posted 2026-07-26 |
//! | all other registers | none | |
//!
//! `sve<N>=on` enables all lengths of the host up to `N` and disables the longer ones, under KVM
//! (`arm_cpu_sve_finalize` in QEMU `target/arm/cpu64.c`, read). `-cpu host,X=Y` and
//! `-global host-arm-cpu.X=Y` set the same property (`cpu_common_parse_features`), and libvirt has
//! no element for most properties.

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_fleet::baseline::Baseline;
use cpreg_fleet::baseline::setting::Setting;

use super::model::{LibvirtElements, QemuOptions};

/// Options of QEMU, by version, oldest first.
pub(super) fn options(baseline: &Baseline) -> Vec<QemuOptions> {
    let settings = || baseline.settings.iter();
    let with_psci = properties(baseline, true);
    let mut options = vec![
        QemuOptions {
            versions: "7.0 to 10.2".to_owned(),
            cpu: cpu(&properties(baseline, false)),
            missing: settings().map(Setting::name).collect(),
        },
        QemuOptions {
            versions: "11.0 and later".to_owned(),
            cpu: cpu(&with_psci),
            missing: missing(baseline),
        },
    ];
    let fields: Vec<_> = settings().filter_map(field_property).collect();
    if !fields.is_empty() {
        let mut properties = with_psci;
        properties.extend(fields);
        let others = settings()
            .filter(|setting| setting.register != RegisterId::PSCI_VERSION)
            .filter(|setting| field_property(setting).is_none());
        options.push(QemuOptions {
            versions: "with SYSREG properties (in no release)".to_owned(),
            cpu: cpu(&properties),
            missing: others.map(Setting::name).collect(),
        });
    }
    options
}

/// Returns the settings for which QEMU 11.0 has no option.
fn missing(baseline: &Baseline) -> Vec<String> {
    let settings = baseline.settings.iter();
    let missing = settings.filter(|setting| setting.register != RegisterId::PSCI_VERSION);
    missing.map(Setting::name).collect()
}

fn cpu(properties: &[(String, String)]) -> String {
    let properties = properties.iter();
    let words = properties.map(|(name, value)| format!("{name}={value}"));
    let words: Vec<_> = ["host".to_owned()].into_iter().chain(words).collect();
    words.join(",")
}

/// Returns the properties of the guest's features and, for QEMU 11.0, of its PSCI version.
fn properties(baseline: &Baseline, has_psci_version: bool) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    let mut add = |name: &str, value: &str| properties.push((name.to_owned(), value.to_owned()));
    let has = |feature| baseline.features.contains(feature);
    if !has(Features::PMU) {
        add("pmu", "off");
    }
    match &baseline.vector_limit {
        _ if !has(Features::SVE) => add("sve", "off"),
        Some(limit) => add(&format!("sve{}", limit.max_bits), "on"),
        None => {}
    }
    if !has(Features::POINTER_AUTHENTICATION) {
        add("pauth", "off");
    }
    let mut settings = baseline.settings.iter();
    let psci = settings.find(|setting| setting.register == RegisterId::PSCI_VERSION);
    if let Some(psci) = psci.filter(|_| has_psci_version) {
        let (major, minor) = (psci.value >> 16, psci.value & 0xffff);
        add("kvm-psci-version", &format!("{major}.{minor}"));
    }
    properties
}

/// Returns the property of the series "customizable host model" for a named field of an ID register
/// or of CTR_EL0.
fn field_property(setting: &Setting) -> Option<(String, String)> {
    let field = setting.field.filter(|field| !field.name().is_empty())?;
    let name = format!("SYSREG_{}_{field}", setting.register);
    Some((name, format!("{:#x}", setting.value)))
}

/// Returns the elements of a libvirt domain for QEMU 11.0 and later.
pub(super) fn libvirt(baseline: &Baseline) -> LibvirtElements {
    let mut features = Vec::new();
    let mut cpu = Vec::new();
    let mut arguments = Vec::new();
    for (name, value) in properties(baseline, true) {
        match (&*name, &*value) {
            ("pmu", value) => features.push(format!("  <pmu state='{value}'/>")),
            ("sve", _) => cpu.push("  <feature policy='disable' name='sve'/>".to_owned()),
            (name, "on") if name.starts_with("sve") => {
                cpu.push(format!("  <feature policy='require' name='{name}'/>"));
            }
            (name, value) => arguments.extend([
                "  <qemu:arg value='-global'/>".to_owned(),
                format!("  <qemu:arg value='host-arm-cpu.{name}={value}'/>"),
            ]),
        }
    }
    let mut lines = element("features", "", features);
    if cpu.is_empty() {
        lines.push("<cpu mode='host-passthrough' check='none'/>".to_owned());
    }
    lines.extend(element("cpu", " mode='host-passthrough' check='none'", cpu));
    if !arguments.is_empty() {
        let namespace = "http://libvirt.org/schemas/domain/qemu/1.0";
        lines.push(format!(
            "<!-- In the domain element: xmlns:qemu='{namespace}' -->"
        ));
    }
    lines.extend(element("qemu:commandline", "", arguments));
    LibvirtElements {
        xml: lines.join("\n") + "\n",
        missing: missing(baseline),
    }
}

/// Returns the lines of an element, or none if it has no content.
fn element(name: &str, attributes: &str, content: Vec<String>) -> Vec<String> {
    if content.is_empty() {
        return Vec::new();
    }
    let begin = format!("<{name}{attributes}>");
    let lines = [begin].into_iter().chain(content);
    lines.chain([format!("</{name}>")]).collect()
}
