//! Report of `classes`.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | conversion of classes to the model |
//! | [`model`] | the model, schema `cpreg.classes/1` |
//! | [`text`] | text of the report |

pub mod model;
pub mod text;

use cpreg_fleet::classes::HostClass;
use cpreg_fleet::key::KeyPart;
use cpreg_fleet::{Host, HostClasses};

use model::{Boundary, ClassReport, ClassesReport, FeatureClasses, SCHEMA};

impl ClassesReport {
    /// Creates a report of the classes of `hosts`.
    pub fn new(hosts: &[Host], classes: &[HostClasses]) -> Self {
        let names: Vec<_> = hosts.iter().map(|host| host.name().to_owned()).collect();
        let classes = classes.iter();
        Self {
            schema: SCHEMA.to_owned(),
            features: classes
                .map(|classes| FeatureClasses::new(&names, classes))
                .collect(),
        }
    }
}

impl FeatureClasses {
    fn new(names: &[String], classes: &HostClasses) -> Self {
        let named = |indexes: &[usize]| {
            let names = indexes.iter().filter_map(|index| names.get(*index));
            names.cloned().collect::<Vec<_>>()
        };
        let mut previous: Option<&HostClass> = None;
        let mut reports = Vec::new();
        for (class, row) in classes.classes.iter().zip(&classes.takes) {
            reports.push(ClassReport {
                key: class.key.to_string(),
                hosts: named(&class.hosts),
                moves_to: row
                    .iter()
                    .map(|cell| cell.symbol().character().to_string())
                    .collect(),
                boundary: previous.map(|previous| boundary(previous, class)),
            });
            previous = Some(class);
        }
        Self {
            features: classes.features.names().map(str::to_owned).collect(),
            classes: reports,
            not_recorded: named(&classes.not_recorded),
        }
    }
}

/// Returns what separates two classes.
fn boundary(one: &HostClass, other: &HostClass) -> Boundary {
    let mut boundary = Boundary::default();
    for part in one.content.differences(&other.content) {
        match part {
            KeyPart::Listed(id) if one.content.lists(id) => boundary.removed.push(id.to_string()),
            KeyPart::Listed(id) => boundary.added.push(id.to_string()),
            KeyPart::InitialValue(id) => boundary.values.push(id.to_string()),
            KeyPart::AcceptedValues(id) => boundary.accepted.push(id.to_string()),
            KeyPart::Gate(id) => boundary.gates.push(id.to_string()),
            KeyPart::Basis(name) | KeyPart::Fact(name) => boundary.facts.push(name.to_owned()),
            _ => {}
        }
    }
    boundary
}
