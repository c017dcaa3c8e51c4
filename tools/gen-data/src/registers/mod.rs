//! `cargo xtask gen-registers`: generates `crates/cpreg/src/register/tables.rs` from `data/*.tsv`.
//!
//! The tables are checked in, so that building the crate needs no generator. `--check` writes
//! nothing, and fails if the checked-in file is not current.
//!
//! Rows of the files:
//!
//! - `sysregs.tsv`: name op0 op1 CRn CRm op2
//! - `names-extra.tsv`: name op0 op1 CRn CRm op2 kind, which is `name`, `alias` or `impdef:CPUs`
//! - `kvm-registers.tsv`
//!   - `register` id name alias…
//!   - `alias` id name…
//!   - `field` register field msb lsb
//!   - `value` register field value text
//!   - `layout` register register
//! - `aarch32.tsv`
//!   - name cp width opc1 CRn CRm opc2 kind counterpart bits layout
//!   - `alias` name name
//! - `fields.tsv`: register field msb lsb
//! - `fields-extra.tsv`
//!   - `field` register field msb lsb
//!   - `signed` register field
//!
//! Columns are separated by tabs. A line that begins with `#` is a comment. The first line of each
//! file names the source of its facts.
//!
//! | module | content |
//! |---|---|
//! | [`encoding`] | parsing of the numbers and register ids in the files |
//! | [`data`] | rows of the files |
//! | [`tables`] | all rows, checked together and sorted |
//! | [`render`](mod@render) | tables as Rust code |

mod data;
mod encoding;
mod render;
mod tables;

use std::fs;
use std::path::Path;

use self::data::Data;
use self::encoding::Result;
pub(crate) use self::render::hex;
use self::render::render;
use self::tables::Tables;
use crate::paths::repository;

const OUTPUT: &str = "crates/cpreg/src/register/tables.rs";
const FILES: [&str; 6] = [
    "sysregs.tsv",
    "names-extra.tsv",
    "kvm-registers.tsv",
    "aarch32.tsv",
    "fields.tsv",
    "fields-extra.tsv",
];

/// Writes the tables; with `check`, only compares them with the existing ones.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = repository();
    let mut data = Data::default();
    for file in FILES {
        let path = root.join("data").join(file);
        let text = read(&path)?;
        data.add(file, &text)
            .map_err(|(line, message)| format!("data/{file}:{line}: {message}"))?;
    }
    let new = render(&Tables::from_data(data)?)?;
    let path = root.join(OUTPUT);
    if check {
        if read(&path)? != new {
            return Err(format!(
                "{OUTPUT} does not match data/: run cargo xtask gen-registers"
            ));
        }
        return Ok(());
    }
    fs::write(&path, new).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::render::render_field;
    use super::*;

    fn add(data: &mut Data, file: &str, rows: &str) -> std::result::Result<(), (usize, String)> {
        data.add(file, &format!("# Synthetic.\n{rows}"))
    }

    /// Returns the layout and the alternatives for rows of the two field files.
    fn fields(rows: &str, extra_rows: &str) -> String {
        let mut data = Data::default();
        add(
            &mut data,
            "sysregs.tsv",
            "R1_EL1\t3\t0\t1\t0\t0\nR12_EL1\t3\t0\t1\t0\t1",
        )
        .unwrap();
        add(&mut data, "fields.tsv", rows).unwrap();
        add(&mut data, "fields-extra.tsv", extra_rows).unwrap();
        let tables = Tables::from_data(data).unwrap();
        let fields = tables.data.fields.values().flatten().map(render_field);
        fields.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_checked_in_tables_are_current() {
        assert_eq!(run(true), Ok(()));
    }

    #[test]
    fn one_layout_and_its_alternatives() {
        assert_eq!(
            fields("R1_EL1\tA\t3\t2\nR1_EL1\tW\t7\t2\nR1_EL1\tP<n>\t9\t0", ""),
            "alternative(\"P<n>\", 9, 0) field(\"W\", 7, 2) alternative(\"A\", 3, 2)"
        );
        // cpreg's own row wins over a wider one. Bits above 63 and repetitions are left out.
        assert_eq!(
            fields(
                "R1_EL1\tW\t7\t2\nR1_EL1\tW\t7\t2\nR1_EL1\tD\t64\t64",
                "field\tR1_EL1\tA\t3\t2\nsigned\tR1_EL1\tA"
            ),
            "alternative(\"W\", 7, 2) signed(\"A\", 3, 2)"
        );
        assert_eq!(
            fields("", "field\tR<n>_EL1\tE\t0\t0"),
            "field(\"E\", 0, 0) field(\"E\", 0, 0)"
        );
    }

    #[test]
    fn bad_rows_are_refused_with_their_line() {
        let rows = [
            ("sysregs.tsv", "A\t3\t0\t1\t0"),
            ("sysregs.tsv", "A\t3\t8\t1\t0\t0"),
            ("sysregs.tsv", "A\t3\t0\t1\t0\t0\nB\t3\t0\t1\t0\t0"),
            ("fields.tsv", "A\tF\t1\t2"),
            ("kvm-registers.tsv", "register\t12\tA"),
            ("aarch32.tsv", "A\t13\t32\t0\t0\t0\t0\tname\t-\t-\t-"),
        ];
        for (file, row) in rows {
            let (line, message) = add(&mut Data::default(), file, row).unwrap_err();
            assert_eq!(line, 1 + row.lines().count(), "{row}: {message}");
        }
        assert!(
            Data::default()
                .add("sysregs.tsv", "A\t3\t0\t1\t0\t0")
                .is_err()
        );
    }

    #[test]
    fn inconsistent_files_are_refused() {
        let whole = [
            ("fields.tsv", "NONE\tF\t1\t0"),
            ("fields-extra.tsv", "signed\tNONE\tF"),
            (
                "kvm-registers.tsv",
                "register\t0x1\tA\tX\nregister\t0x2\tB\tX",
            ),
            ("kvm-registers.tsv", "alias\t0x1\tA"),
            (
                "kvm-registers.tsv",
                "register\t0x1\tA\nvalue\tA\tF\t0x0\ttext",
            ),
        ];
        for (file, rows) in whole {
            let mut data = Data::default();
            add(&mut data, file, rows).unwrap();
            assert!(Tables::from_data(data).is_err(), "{rows}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(hex(0), "0x0");
        assert_eq!(hex(0x12), "0x12");
        assert_eq!(hex(0x1_0003), "0x0001_0003");
        assert_eq!(hex(0x6030_0000_0013_c103), "0x6030_0000_0013_c103");
    }
}
