//! The cases, and what must hold.

use std::fs;

use cpreg_report::matrix::page::html;
use e2e_framework::Result;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::fleet;
use crate::pages::{CsvCell, Pages};
use crate::webdriver::Key;

/// A case: its name, and a function that returns a note for the user.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Fixture) -> Result<String>,
}

/// All cases.
pub(crate) const CASES: [Case; 10] = [
    Case {
        name: "cells",
        run: cells,
    },
    Case {
        name: "keyboard",
        run: keyboard,
    },
    Case {
        name: "details",
        run: details,
    },
    Case {
        name: "timeline",
        run: timeline,
    },
    Case {
        name: "markup",
        run: markup,
    },
    Case {
        name: "looks",
        run: looks,
    },
    Case {
        name: "first-paint",
        run: first_paint,
    },
    Case {
        name: "fleet-upgrade",
        run: fleet::upgrade,
    },
    Case {
        name: "fleet-text",
        run: fleet::text_and_keyboard,
    },
    Case {
        name: "fleet-first-paint",
        run: fleet::first_paint,
    },
];

/// Arguments of a small matrix in which most symbols occur.
const EXAMPLE_ARGUMENTS: [&str; 9] = [
    "vm.stream",
    "linux-7.3/n1",
    "linux-5.10/n1",
    "--to",
    "linux-6.1/n1",
    "linux-6.12.107/n1",
    "linux-7.3/n1",
    "rhel-9/n1",
    "linux-7.3/max",
];
/// Number of destinations in [`EXAMPLE_ARGUMENTS`].
const EXAMPLE_COLUMN_COUNT: usize = 5;
/// Row and column of the focused cell; null outside of the table.
const FOCUSED_CELL: &str = "(() => { const it = document.activeElement; \
    return it.matches('#grid tbody td') ? [it.parentNode.sectionRowIndex, it.cellIndex - 1] : null; })()";
/// Text of the dialog.
const DIALOG_TEXT: &str = "document.getElementById('details').innerText";

/// The table, with each switch, shows the cells of the CSV form.
fn cells(fixture: &Fixture) -> Result<String> {
    fixture.open("cells.html", &EXAMPLE_ARGUMENTS)?;
    let browser = &fixture.browser;
    let with_cpreg = |cell: &CsvCell| cell.symbol.clone();
    let without_cpreg = |cell: &CsvCell| match &*cell.without_cpreg {
        "loads" => "+".to_owned(),
        "loses-registers" => "~".to_owned(),
        "fails" => ".".to_owned(),
        _ => "?".to_owned(),
    };
    let own = fixture.pages.csv(&EXAMPLE_ARGUMENTS)?;
    fixture.expect_symbols(own.iter().map(with_cpreg))?;
    browser.click("input[value=without]")?;
    fixture.expect_symbols(own.iter().map(without_cpreg))?;
    let chosen = fixture
        .pages
        .csv(&[&EXAMPLE_ARGUMENTS[..], &["--loader", "qemu-10.0"]].concat())?;
    browser.execute(
        "const it = document.getElementById('loader'); \
         it.value = Array.from(it.options).find(one => one.text === 'qemu-10.0').value; \
         it.dispatchEvent(new Event('change'));",
    )?;
    fixture.expect_symbols(chosen.iter().map(without_cpreg))?;
    browser.click("input[value=with]")?;
    fixture.expect_symbols(chosen.iter().map(with_cpreg))?;
    // The filter keeps the rows whose names have all words.
    browser.type_text("#filter", "linux 5.10")?;
    let row = chosen
        .iter()
        .skip(2 * EXAMPLE_COLUMN_COUNT)
        .take(EXAMPLE_COLUMN_COUNT);
    fixture.expect_symbols(row.map(with_cpreg))?;
    let symbols: std::collections::BTreeSet<_> = own.iter().map(with_cpreg).collect();
    if symbols.len() < 4 {
        return Err(format!("few symbols occur: {symbols:?}").into());
    }
    Ok(String::new())
}

/// The keyboard reaches every switch and cell, shows a cell, and returns to it.
fn keyboard(fixture: &Fixture) -> Result<String> {
    fixture.open("keyboard.html", &EXAMPLE_ARGUMENTS)?;
    let browser = &fixture.browser;
    let mut reached = Vec::new();
    for _ in 0..5 {
        browser.press(&[Key::TAB])?;
        let name = "(document.activeElement.id || document.activeElement.name || document.activeElement.tagName)";
        reached.push(browser.evaluate(name)?);
        fixture.expect(
            "getComputedStyle(document.activeElement).outlineStyle",
            &json!("solid"),
        )?;
        if browser.evaluate(FOCUSED_CELL)? != Value::Null {
            break;
        }
    }
    if reached != [json!("loader"), json!("load"), json!("filter"), json!("TD")] {
        return Err(format!("Tab reaches {reached:?}").into());
    }
    let moves = [
        (Key::RIGHT, [0, 1]),
        (Key::DOWN, [1, 1]),
        (Key::DOWN, [2, 1]),
        (Key::DOWN, [2, 1]),
        (Key::END, [2, 4]),
        (Key::RIGHT, [2, 4]),
        (Key::UP, [1, 4]),
        (Key::HOME, [1, 0]),
        (Key::LEFT, [1, 0]),
        (Key::PAGE_DOWN, [2, 0]),
        (Key::RIGHT, [2, 1]),
    ];
    for (key, place) in moves {
        browser.press(&[key])?;
        fixture.expect(FOCUSED_CELL, &json!(place))?;
    }
    fixture.expect_text(
        "document.activeElement.getAttribute('aria-label')",
        &["linux-5.10.223/neoverse-n1/pmu at linux-6.12.107/neoverse-n1"],
    )?;
    // Exactly one cell is in the order of Tab.
    fixture.expect(
        "document.querySelectorAll('#grid td[tabindex]').length",
        &json!(1),
    )?;
    browser.press(&[Key::ENTER])?;
    fixture.expect("document.getElementById('details').open", &json!(true))?;
    fixture.expect("document.activeElement.id", &json!("details-title"))?;
    browser.press(&[Key::ESCAPE])?;
    fixture.expect("document.getElementById('details').open", &json!(false))?;
    fixture.expect(FOCUSED_CELL, &json!([2, 1]))?;
    Ok(String::new())
}

/// A cell shows registers with their values, reason, commits, ways out and commands.
fn details(fixture: &Fixture) -> Result<String> {
    fixture.open(
        "details.html",
        &[&EXAMPLE_ARGUMENTS[..], &["--loader", "qemu-10.0"]].concat(),
    )?;
    let browser = &fixture.browser;
    // A new VM of Linux 7.3 at Linux 6.12: the kernel lacks its version of PSCI.
    browser.click("#grid tbody tr:nth-child(2) td:nth-of-type(2)")?;
    fixture.expect("document.getElementById('details').open", &json!(true))?;
    fixture.expect_text(
        DIALOG_TEXT,
        &[
            "linux-7.3.4/neoverse-n1/pmu → linux-6.12.107/neoverse-n1",
            "Blocks the load",
            "PSCI_VERSION",
            "1.3 (0x10003)",
            "1.1 (0x10001)",
            "the guest was promised a PSCI version",
            "8be82d536a9f",
            "kvm-psci-version",
            "--accept PSCI_VERSION",
            "cpreg check linux-7.3.4/neoverse-n1/pmu linux-6.12.107/neoverse-n1",
            "--loader qemu-10.0 --accept low",
            "Messages of the loader without cpreg",
            "error while loading state for instance 0x0 of device 'cpu'",
        ],
    )?;
    fixture.keep_screenshot("details.png")?;
    browser.click("#close")?;
    fixture.expect(FOCUSED_CELL, &json!([1, 1]))?;
    // A VM in a file that converts: what cpreg leaves out, and the command that converts it.
    browser.click("#grid tbody tr:nth-child(1) td:nth-of-type(3)")?;
    fixture.expect_text(
        DIALOG_TEXT,
        &[
            "TCR2_EL1",
            "0fcb4eea5345",
            "cpreg convert vm.stream linux-7.3.4/neoverse-n1 -o OUTPUT --loader qemu-10.0",
        ],
    )?;
    browser.press(&[Key::ESCAPE])?;
    Ok(String::new())
}

/// A register's button shows its timeline, in which a kernel is listed, hidden and writable as
/// `cpreg explain` says.
fn timeline(fixture: &Fixture) -> Result<String> {
    let page = fixture.pages.write("timeline.html", &EXAMPLE_ARGUMENTS)?;
    let data = Pages::data(&page)?;
    let browser = &fixture.browser;
    browser.open(&page)?;
    browser.click("#grid tbody tr:nth-child(1) td:nth-of-type(3)")?;
    browser.execute(
        "Array.from(document.querySelectorAll('.register')).find(it => \
         it.textContent === 'TCR2_EL1').focus();",
    )?;
    browser.press(&[Key::ENTER])?;
    fixture.expect(
        "document.activeElement.textContent",
        &json!("TCR2_EL1 over the recorded kernels"),
    )?;
    let lane = |name: &str| {
        format!(
            "Array.from(document.querySelectorAll('.strip tbody tr')).find(it => \
             it.cells[0].textContent === '{name}').innerText.split(/\\s+/).slice(1).join('')"
        )
    };
    let marks = |has_mark: &dyn Fn(&str) -> bool, mark: char| -> String {
        let marks = data.kernels.iter();
        marks
            .map(|kernel| if has_mark(kernel) { mark } else { '-' })
            .collect()
    };
    let version = |kernel: &str| -> (u16, u16) {
        let mut numbers = kernel
            .split('.')
            .map(|number| number.parse().unwrap_or_default());
        (
            numbers.next().unwrap_or_default(),
            numbers.next().unwrap_or_default(),
        )
    };
    // Linux 6.5 lists TCR2_EL1 for every guest; since 6.13 an ID field hides it.
    let listed = marks(&|kernel| version(kernel) >= (6, 5), 'l');
    let hidden = marks(&|kernel| version(kernel) >= (6, 13), 'h');
    fixture.expect(&lane("listed"), &json!(listed))?;
    fixture.expect(&lane("hidden"), &json!(hidden))?;
    fixture.expect_text(
        "document.querySelector('.timeline').innerText",
        &["ID_AA64MMFR3_EL1.TCRX", "v6.13", "no guest"],
    )?;
    fixture.keep_screenshot("timeline.png")?;
    browser.press(&[Key::ESCAPE])?;
    Ok(String::new())
}

/// Names with markup stay text, and no name runs as a script.
fn markup(fixture: &Fixture) -> Result<String> {
    let name = Pages::markup_name();
    let broken = "<i>broken<-i>";
    fixture.open("markup.html", &[&name, broken, "--to", "linux-7.3/n1"])?;
    let shown = "document.querySelector('#grid tbody th').textContent";
    fixture.expect(shown, &json!(name))?;
    fixture.expect("document.querySelectorAll('img, b, i').length", &json!(0))?;
    fixture.browser.click("#grid tbody td")?;
    fixture.expect_text(
        "document.getElementById('details-title').textContent",
        &[&name],
    )?;
    fixture.expect("document.querySelectorAll('img, b, i').length", &json!(0))?;
    fixture.expect("typeof window.owned", &json!("undefined"))?;
    fixture.expect_text("document.getElementById('left-out').innerText", &[broken])?;
    // The command is quoted for a shell.
    fixture.expect_text(DIALOG_TEXT, &[&format!("cpreg check '{name}' linux-7.3.4")])?;
    fixture.browser.press(&[Key::ESCAPE])?;
    Ok(String::new())
}

/// The page has light and dark colours, and a printed form without switches.
fn looks(fixture: &Fixture) -> Result<String> {
    fixture.open(
        "looks.html",
        &[
            "n1/pmu",
            "vm.stream",
            "--to",
            "n1",
            "rhel-9/n1",
            "linux-7.3/max",
        ],
    )?;
    let browser = &fixture.browser;
    let background = "getComputedStyle(document.body).backgroundColor";
    let form = "getComputedStyle(document.getElementById('switches')).display";
    browser.emulate("screen", "light")?;
    fixture.expect(background, &json!("rgb(255, 255, 255)"))?;
    fixture.keep_screenshot("light.png")?;
    browser.emulate("screen", "dark")?;
    fixture.expect(background, &json!("rgb(20, 23, 26)"))?;
    fixture.expect(HAS_CONTRAST, &json!(true))?;
    fixture.keep_screenshot("dark.png")?;
    // Paper is white, also for a reader who prefers dark pages.
    browser.emulate("print", "dark")?;
    fixture.expect(background, &json!("rgb(255, 255, 255)"))?;
    fixture.expect(form, &json!("none"))?;
    fixture.expect(HAS_CONTRAST, &json!(true))?;
    fixture.keep_screenshot("print.png")?;
    fixture.keep("print.pdf", &browser.print()?)?;
    browser.emulate("screen", "light")?;
    fixture.expect(form, &json!("flex"))?;
    fixture.expect(HAS_CONTRAST, &json!(true))?;
    Ok(String::new())
}

/// Expression that is true if text and background of all cells have a contrast of at least 4.5
/// (WCAG 2.1, 1.4.3).
const HAS_CONTRAST: &str = "(() => {
    const channel = it => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4;
    const luminance = color => {
        const [r, g, b] = color.match(/[0-9.]+/g).map(it => channel(Number(it) / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return Array.from(document.querySelectorAll('#grid tbody td')).every(it => {
        const style = getComputedStyle(it);
        const colors = [style.color, style.backgroundColor].map(luminance);
        const [light, dark] = colors.sort((one, other) => other - one);
        return (light + 0.05) / (dark + 0.05) >= 4.5;
    });
})()";

/// A page with 120 VMs at every recorded host: its time until the first paint, which is only
/// reported, and no request to any other file.
///
/// Only some of the VMs are planned, and their rows are repeated, because a build for tests plans
/// slowly.
fn first_paint(fixture: &Fixture) -> Result<String> {
    const ROWS: usize = 120;
    let arguments = ["linux-7.3", "--to", "all", "--loader", "qemu-10.0"];
    let page = fixture.pages.write("all.html", &arguments)?;
    let mut data = Pages::data(&page)?;
    data.sources = data.sources.iter().cycle().take(ROWS).cloned().collect();
    let html = html::document(&data)?;
    fs::write(&page, &html)?;
    fixture.browser.open(&page)?;
    let cells = data.sources.len() * data.destinations.len();
    fixture.expect(
        "document.querySelectorAll('#grid tbody td').length",
        &json!(cells),
    )?;
    fixture.expect("performance.getEntriesByType('resource').length", &json!(0))?;
    // A picture needs a frame, so the page has been painted afterwards. Chromium can delay the
    // callbacks of frames without limit.
    fixture.keep_screenshot("all.png")?;
    let milliseconds = fixture.first_paint()?;
    fixture.browser.emulate("print", "light")?;
    fixture.keep("all.pdf", &fixture.browser.print()?)?;
    fixture.browser.emulate("screen", "light")?;
    Ok(format!(
        "  {cells} cells, {} KiB, first paint after {milliseconds:.0} ms",
        html.len() / 1024
    ))
}
