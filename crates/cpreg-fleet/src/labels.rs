//! [`FleetLabels`]: what each node takes, as names for the schedulers of other systems.
//!
//! The relation has a direction: a node *loads K* if it takes new VMs that were born on a host with
//! the [key](crate::key) K. A scheduler that selects nodes with this name for VMs of K sends them
//! only to nodes that take them.

use std::collections::BTreeSet;

use cpreg::destination::Features;
use cpreg::plan::Verdict;

use crate::classes::HostClasses;
use crate::inputs::PlanInputs;
use crate::inventory::Inventory;

/// Prefix of all labels of Kubernetes. Node Feature Discovery lets any source use this namespace.
pub const LABEL_PREFIX: &str = "feature.node.kubernetes.io/cpreg.";
/// Prefix of the label of a node that takes new VMs of a key unchanged.
pub const LOADS_LABEL_PREFIX: &str = "feature.node.kubernetes.io/cpreg.loads-";

/// Label of Kubernetes with the identifier of the node's record, as
/// [`Inventory::record_id`] returns it.
pub const RECORD_LABEL: &str = "feature.node.kubernetes.io/cpreg.record";
/// Label of Kubernetes with the kernel in the node's record, as [`label_value`] writes it.
pub const KERNEL_LABEL: &str = "feature.node.kubernetes.io/cpreg.kernel";

/// Longest name of a label of Kubernetes, after its namespace, and longest value.
const MAX_LABEL_LEN: usize = 63;
/// Longest name of a node of Kubernetes.
const MAX_NODE_NAME_LEN: usize = 253;
/// Longest trait of OpenStack.
const MAX_TRAIT_LEN: usize = 255;
/// Longest tag of Ganeti.
const MAX_TAG_LEN: usize = 128;
/// Longest name of a file.
const MAX_FILE_NAME_LEN: usize = 200;

/// Profile: VMs that are born on hosts with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// Key.
    pub key: String,
    /// Features of the guests.
    pub features: Features,
    /// Indexes of the hosts with this key.
    pub hosts: Vec<usize>,
}

/// Keys of a host, and of the VMs that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostLabels {
    /// Keys of the host: one for each set of features.
    pub profiles: BTreeSet<String>,
    /// Keys whose new VMs load unchanged.
    pub loads: BTreeSet<String>,
    /// Keys whose new VMs load after a conversion.
    pub converts: BTreeSet<String>,
}

/// Labels of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetLabels {
    /// Profiles of all hosts.
    pub profiles: Vec<Profile>,
    /// Labels of each host of the inventory.
    pub hosts: Vec<HostLabels>,
}

impl FleetLabels {
    /// Returns the labels of all hosts, for guests with the default features of each host, and with
    /// these features.
    pub fn new(inventory: &Inventory, features: &[Features], inputs: PlanInputs<'_>) -> Self {
        let hosts = inventory.hosts();
        let mut sets: BTreeSet<_> = hosts.iter().map(crate::Host::default_features).collect();
        sets.extend(features);
        let mut labels = Self {
            profiles: Vec::new(),
            hosts: vec![HostLabels::default(); hosts.len()],
        };
        for features in sets {
            labels.add(&HostClasses::new(hosts, features, inputs));
        }
        labels
    }

    fn add(&mut self, classes: &HostClasses) {
        for (source, row) in classes.classes.iter().zip(&classes.takes) {
            let key = source.key.to_string();
            for host in &source.hosts {
                if let Some(labels) = self.hosts.get_mut(*host) {
                    labels.profiles.insert(key.clone());
                }
            }
            for (destination, cell) in classes.classes.iter().zip(row) {
                for host in &destination.hosts {
                    let Some(labels) = self.hosts.get_mut(*host) else {
                        continue;
                    };
                    let taken = match cell.verdict {
                        Verdict::Loads => &mut labels.loads,
                        Verdict::Converts => &mut labels.converts,
                        Verdict::Refused | Verdict::Unknown => continue,
                    };
                    taken.insert(key.clone());
                }
            }
            self.profiles.push(Profile {
                key,
                features: classes.features,
                hosts: source.hosts.clone(),
            });
        }
    }

    /// Returns the keys of the VMs that hosts of a profile take, among profiles with the same
    /// features.
    pub fn taken_by<'a>(
        &'a self,
        profile: &'a Profile,
    ) -> impl Iterator<Item = (Property, &'a str)> {
        let host = profile.hosts.first().and_then(|host| self.hosts.get(*host));
        let others = self.profiles.iter();
        let others = others.filter(|other| other.features == profile.features);
        others.filter_map(move |other| {
            let host = host?;
            if host.loads.contains(&other.key) {
                Some((Property::Loads, &*other.key))
            } else if host.converts.contains(&other.key) {
                Some((Property::Converts, &*other.key))
            } else {
                None
            }
        })
    }

    /// Returns the pairs of different keys of which a VM of the first loads at hosts of the second.
    pub fn loading_pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = Vec::new();
        for profile in &self.profiles {
            let others = self.profiles.iter();
            let others = others.filter(|other| other.features == profile.features);
            for other in others.filter(|other| other.key != profile.key) {
                let host = other.hosts.first().and_then(|host| self.hosts.get(*host));
                if host.is_some_and(|host| host.loads.contains(&profile.key)) {
                    pairs.push((&*profile.key, &*other.key));
                }
            }
        }
        pairs
    }
}

/// Name that a system gives a property of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each system has a name for each")]
pub enum Property {
    /// The node has this key.
    Profile,
    /// The node takes new VMs of this key unchanged.
    Loads,
    /// The node takes new VMs of this key after a conversion.
    Converts,
}

impl Property {
    const fn word(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Loads => "loads",
            Self::Converts => "converts",
        }
    }
}

/// Returns the label of Kubernetes: `feature.node.kubernetes.io/cpreg.loads-k1-…`.
pub fn kubernetes_label(property: Property, key: &str) -> String {
    format!("{LABEL_PREFIX}{}-{key}", property.word())
}

/// Returns a text as the value of a label of Kubernetes: other characters become `_`.
pub fn label_value(text: &str) -> String {
    let is_valid = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let letters = text.chars().map(|it| if is_valid(it) { it } else { '_' });
    let value: String = letters.take(MAX_LABEL_LEN).collect();
    let is_end = |letter: char| !letter.is_ascii_alphanumeric();
    value.trim_matches(is_end).to_owned()
}

/// Returns the trait of OpenStack: `CUSTOM_CPREG_LOADS_K1_…`.
pub fn openstack_trait(property: Property, key: &str) -> String {
    let name = format!("CUSTOM_CPREG_{}_{key}", property.word());
    name.to_ascii_uppercase().replace('-', "_")
}

/// Returns the tag of Ganeti of a node with this key.
pub fn ganeti_tag(key: &str) -> String {
    format!("cpreg:{key}")
}

/// Returns the reason why a name is no label of Kubernetes; `None` if it is one.
pub fn reject_label(label: &str) -> Option<String> {
    let (namespace, name) = label.split_once('/').unwrap_or(("", label));
    if !namespace.is_empty() && reject_kubernetes_node(namespace).is_some() {
        return Some(format!("{label}: the namespace is no DNS name"));
    }
    reject_label_part(name).map(|reason| format!("{label}: {reason}"))
}

fn reject_label_part(text: &str) -> Option<&'static str> {
    let is_end = |letter: Option<char>| letter.is_some_and(|it| it.is_ascii_alphanumeric());
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if text.len() > MAX_LABEL_LEN {
        return Some("a label has up to 63 characters");
    }
    let is_valid = text.chars().all(is_inner)
        && is_end(text.chars().next())
        && is_end(text.chars().next_back());
    (!is_valid).then_some("a label has letters, digits, -, _ and . and ends with a letter or digit")
}

/// Returns the reason why a name is no name of a node of Kubernetes; `None` if it is one.
pub fn reject_kubernetes_node(name: &str) -> Option<String> {
    let is_part = |part: &str| {
        let is_inner = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-');
        !part.is_empty()
            && part.chars().all(is_inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let is_valid = name.len() <= MAX_NODE_NAME_LEN && name.split('.').all(is_part);
    (!is_valid).then(|| "a node of Kubernetes has a lower-case DNS name".to_owned())
}

/// Returns the reason why a name is no trait of OpenStack; `None` if it is one.
pub fn reject_trait(name: &str) -> Option<String> {
    let is_valid = |letter: char| matches!(letter, 'A'..='Z' | '0'..='9' | '_');
    let is_trait = name
        .strip_prefix("CUSTOM_")
        .is_some_and(|rest| !rest.is_empty())
        && name.len() <= MAX_TRAIT_LEN
        && name.chars().all(is_valid);
    (!is_trait).then(|| format!("{name}: a trait is CUSTOM_ and up to 248 of A-Z, 0-9 and _"))
}

/// Returns the reason why a name is no tag of Ganeti; `None` if it is one.
pub fn reject_tag(tag: &str) -> Option<String> {
    let is_valid = |letter: char| letter.is_ascii_alphanumeric() || "_.+*/:@-".contains(letter);
    let is_tag = !tag.is_empty() && tag.len() <= MAX_TAG_LEN && tag.chars().all(is_valid);
    (!is_tag).then(|| format!("{tag}: a tag has up to 128 letters, digits and _.+*/:@-"))
}

/// Returns the reason why a node's name cannot be the name of a file; `None` if it can.
pub fn reject_file_name(name: &str) -> Option<String> {
    let is_valid = |letter: char| letter.is_ascii_alphanumeric() || "-_.:@".contains(letter);
    let is_file_name = !name.is_empty()
        && name.len() <= MAX_FILE_NAME_LEN
        && !name.starts_with(['.', '-'])
        && name.chars().all(is_valid);
    (!is_file_name).then(|| {
        "the name of the node is no name of a file: up to 200 letters, digits and -_.:@".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use cpreg::plan::Consents;
    use cpreg::tolerance::Tolerances;

    use super::*;
    use crate::host::testing::recorded_hosts;

    #[test]
    fn names_are_within_the_limits_of_each_system() {
        // The longest key of a scheme with one digit more.
        let key = "k99-c8b757e57ef02cae";
        for property in [Property::Profile, Property::Loads, Property::Converts] {
            assert_eq!(reject_label(&kubernetes_label(property, key)), None);
            assert_eq!(reject_trait(&openstack_trait(property, key)), None);
        }
        assert_eq!(reject_tag(&ganeti_tag(key)), None);
        assert_eq!(
            openstack_trait(Property::Loads, "k1-ab"),
            "CUSTOM_CPREG_LOADS_K1_AB"
        );
    }

    #[test]
    fn other_names_are_rejected() {
        let long = "a".repeat(64);
        for label in ["a/", "a/-b", "a/b-", "A_/b", "a/b c", "", &long] {
            assert!(reject_label(label).is_some(), "{label}");
        }
        for node in ["N1", "", "a..b", "a_b", "-a", "a/b"] {
            assert!(reject_kubernetes_node(node).is_some(), "{node}");
        }
        for name in ["CUSTOM_", "CPREG", "CUSTOM_a", "CUSTOM_A-B"] {
            assert!(reject_trait(name).is_some(), "{name}");
        }
        assert!(reject_tag("a b").is_some() && reject_tag("").is_some());
        for name in ["..", "a/b", "", ".a", "a b", "-f"] {
            assert!(reject_file_name(name).is_some(), "{name}");
        }
        assert_eq!(reject_kubernetes_node("node-1.example.org"), None);
        assert_eq!(reject_file_name("node-1.example.org"), None);
    }

    #[test]
    fn any_text_becomes_the_value_of_a_label() {
        assert_eq!(label_value("6.12.107+deb13-arm64"), "6.12.107_deb13-arm64");
        let long = format!("{}+{}", "a".repeat(62), "b".repeat(9));
        for text in [&*long, "+a+", "é1"] {
            assert_eq!(reject_label_part(&label_value(text)), None, "{text}");
        }
        assert_eq!(label_value("+"), "");
    }

    #[test]
    fn a_label_has_the_direction_of_the_relation() {
        let mut inventory = Inventory::default();
        let names = ["linux-6.12.107/neoverse-n1", "linux-7.3.4/neoverse-n1"];
        for host in recorded_hosts(&names) {
            inventory.add_host(host);
        }
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        let labels = FleetLabels::new(&inventory, &[], inputs);
        let [old, new] = &labels.hosts[..] else {
            panic!("two hosts");
        };
        assert_eq!((old.profiles.len(), new.profiles.len()), (1, 1));
        assert!(old.loads.is_superset(&old.profiles));
        assert!(new.converts.is_superset(&old.profiles) || new.loads.is_superset(&old.profiles));
        assert!(!old.loads.is_superset(&new.profiles), "PSCI_VERSION");
        // The relation of a profile is that of its hosts.
        for (profile, host) in labels.profiles.iter().zip(&labels.hosts) {
            let taken = |property| {
                let all = labels.taken_by(profile);
                let all = all.filter(|(of, _)| *of == property);
                all.map(|(_, key)| key.to_owned()).collect::<BTreeSet<_>>()
            };
            assert_eq!(taken(Property::Loads), host.loads);
            assert_eq!(taken(Property::Converts), host.converts);
        }
    }
}
