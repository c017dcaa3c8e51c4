//! Cases of the page of `cpreg fleet page`.

use std::fs;

use cpreg_report::matrix::page::html;
use e2e_framework::Result;
use serde_json::json;

use crate::fixture::Fixture;
use crate::pages::Pages;
use crate::webdriver::Key;

/// Fleet with names that contain markup, a VM without a way, and a node that cannot be used.
const INVENTORY: &str = r#"{"node":"n1","host":"linux-6.12.107/neoverse-n1"}
{"node":"n2","host":"linux-6.12.95/neoverse-n1"}
{"node":"n3</script><img src=x onerror=window.owned=1>","host":"linux-7.3.4/neoverse-n1"}
{"node":"<i>n4</i>","host":"linux-6.1.176/neoverse-n1","kernel":"6.2"}
{"vm":"web","node":"n1","source":"vm.stream"}
{"vm":"db","node":"n2","born_on":"n1"}
{"vm":"<b onclick=1>late</b>","node":"n3</script><img src=x onerror=window.owned=1>"}
"#;
/// Target of the upgrade.
const TARGET: [&str; 2] = ["--to", "linux-7.3.4/neoverse-n1"];
/// Titles of the rows.
const TITLES: &str =
    "Array.from(document.querySelectorAll('#grid tbody th'), it => it.textContent)";
/// Text of the part above the table.
const NODES: &str = "document.getElementById('fleet').innerText";

/// VMs are in the order of their ways now and after each step, and the upgrade is shown.
pub(crate) fn upgrade(fixture: &Fixture) -> Result<String> {
    let page = fixture.pages.write_fleet(INVENTORY, &TARGET)?;
    let browser = &fixture.browser;
    browser.open(&page)?;
    let late = "<b onclick=1>late</b> on n3</script><img src=x onerror=window.owned=1>";
    // A VM without a state is planned before those whose states are still to be read.
    let titles = [
        &format!("no way {late}"),
        "2 ways db on n2",
        "2 ways web on n1",
    ];
    fixture.expect(TITLES, &json!(titles))?;
    let parts = [
        "3 VMs, 1 without a known way to another node; 3 of 4 nodes usable. Moment: now.",
        "Upgrade to linux-7.3.4/neoverse-n1",
        "before 2 of 3, after 3",
        "PSCI_VERSION",
    ];
    fixture.expect_text(NODES, &parts)?;
    browser.execute(
        "const it = document.getElementById('moment'); it.value = it.options.length - 1; \
         it.dispatchEvent(new Event('change'));",
    )?;
    let titles = [
        &format!("2 ways {late}"),
        "2 ways db on n2",
        "2 ways web on n1",
    ];
    fixture.expect(TITLES, &json!(titles))?;
    fixture.expect_text(NODES, &["0 without a known way", "after step 1 (2 nodes)"])?;
    fixture.keep_screenshot("fleet.png")?;
    Ok(String::new())
}

/// Names with markup stay text, the keyboard reaches the cells, and the page prints.
pub(crate) fn text_and_keyboard(fixture: &Fixture) -> Result<String> {
    let page = fixture.pages.write_fleet(INVENTORY, &TARGET)?;
    let browser = &fixture.browser;
    browser.open(&page)?;
    fixture.expect("document.querySelectorAll('img, b, i').length", &json!(0))?;
    fixture.expect_text(
        "document.getElementById('left-out').innerText",
        &["<i>n4</i>"],
    )?;
    let mut reached = Vec::new();
    for _ in 0..5 {
        browser.press(&[Key::TAB])?;
        let name = "(document.activeElement.id || document.activeElement.name || document.activeElement.tagName)";
        reached.push(browser.evaluate(name)?);
    }
    if json!(reached) != json!(["loader", "load", "moment", "filter", "TD"]) {
        return Err(format!("Tab reaches {reached:?}").into());
    }
    browser.press(&[Key::DOWN])?;
    browser.press(&[Key::DOWN])?;
    browser.press(&[Key::ENTER])?;
    // The command is that of the VM's file.
    fixture.expect_text(
        "document.getElementById('details').innerText",
        &["web → linux-6.12.107/neoverse-n1", "cpreg check vm.stream"],
    )?;
    browser.press(&[Key::ESCAPE])?;
    fixture.expect("typeof window.owned", &json!("undefined"))?;
    browser.emulate("print", "dark")?;
    let display = "getComputedStyle(document.getElementById('switches')).display";
    fixture.expect(display, &json!("none"))?;
    fixture.keep("fleet.pdf", &browser.print()?)?;
    browser.emulate("screen", "light")?;
    Ok(String::new())
}

/// A page with 200 classes and 10 000 VMs: its time until the first paint, which is only reported.
///
/// The classes and VMs of a small fleet are repeated with other names. There are not as many
/// recorded hosts that decide differently.
pub(crate) fn first_paint(fixture: &Fixture) -> Result<String> {
    const CLASSES: usize = 200;
    const VMS: usize = 10_000;
    /// Different rows. VMs of one recording have equal rows.
    const ROWS: usize = 500;
    let page = fixture.pages.write_fleet(INVENTORY, &TARGET)?;
    let mut data = Pages::data(&page)?;
    let cells = data.cells.len();
    data.rows = (0..ROWS)
        .map(|row| {
            let cells = (0..CLASSES).map(|class| (row * 7 + class * (row + 1)) % cells);
            vec![cells.collect()]
        })
        .collect();
    let destination = data.destinations.first().ok_or("no class")?.clone();
    data.destinations = vec![destination; CLASSES];
    for (index, destination) in data.destinations.iter_mut().enumerate() {
        destination.name = format!("class-{index}");
    }
    let source = data.sources.first().ok_or("no VM")?.clone();
    data.sources = vec![source; VMS];
    for (index, source) in data.sources.iter_mut().enumerate() {
        source.name = format!("vm-{index}");
        source.row = index % ROWS;
        source.class = Some(index % CLASSES);
    }
    let fleet = data.fleet.as_mut().ok_or("no fleet")?;
    let class = fleet.classes.first().ok_or("no class")?.clone();
    fleet.classes = vec![class; CLASSES];
    for moment in &mut fleet.moments {
        moment.counts = (0..CLASSES).map(|class| 50 + class % 7).collect();
    }
    let html = html::document(&data)?;
    fs::write(&page, &html)?;
    fixture.browser.open(&page)?;
    fixture.expect_text(NODES, &["10000 VMs"])?;
    // A picture needs a frame, so the page has been painted afterwards.
    fixture.keep_screenshot("fleet-all.png")?;
    let milliseconds = fixture.first_paint()?;
    let complete = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd";
    let complete = fixture.browser.evaluate(complete)?;
    let complete = complete.as_f64().ok_or("the script has not run")?;
    Ok(format!(
        "  {VMS} VMs at {CLASSES} classes, {} KiB, first paint after {milliseconds:.0} ms, table \
         complete after {complete:.0} ms",
        html.len() / 1024
    ))
}
