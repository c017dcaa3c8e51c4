//! [`Browser`]: a headless Chromium, controlled through chromedriver (W3C WebDriver).
//!
//! The ten calls are written by hand, because the WebDriver clients for Rust bring an
//! asynchronous runtime along.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use e2e_framework::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Text before the port in the first lines of chromedriver.
const PORT_PREFIX: &str = "started successfully on port ";
/// Member of an element's reference (W3C WebDriver, section 12).
const ELEMENT_KEY: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Key on the keyboard, as WebDriver names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(char);

impl Key {
    pub(crate) const TAB: Self = Self('\u{e004}');
    pub(crate) const ENTER: Self = Self('\u{e007}');
    pub(crate) const ESCAPE: Self = Self('\u{e00c}');
    pub(crate) const PAGE_DOWN: Self = Self('\u{e00f}');
    pub(crate) const END: Self = Self('\u{e010}');
    pub(crate) const HOME: Self = Self('\u{e011}');
    pub(crate) const LEFT: Self = Self('\u{e012}');
    pub(crate) const UP: Self = Self('\u{e013}');
    pub(crate) const RIGHT: Self = Self('\u{e014}');
    pub(crate) const DOWN: Self = Self('\u{e015}');
}

/// Browser with one window, and its driver.
pub(crate) struct Browser {
    driver: Child,
    /// Address of the session: `http://127.0.0.1:PORT/session/ID`.
    session: String,
    agent: ureq::Agent,
    /// Folder of the browser, which ends with it.
    profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session. A driver that fails is killed.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts driver and browser.
    ///
    /// # Errors
    /// Returns an error if one of them does not start.
    pub(crate) fn start() -> Result<Self> {
        let profile = TempDir::new()?;
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start chromedriver: {error}"))?;
        let port = driver.stdout.take().and_then(|output| {
            let mut lines = BufReader::new(output)
                .lines()
                .map_while(std::io::Result::ok);
            lines.find_map(|line| {
                let (_, port) = line.split_once(PORT_PREFIX)?;
                port.trim_end_matches('.').parse::<u16>().ok()
            })
        });
        let agent = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut browser = Self {
            driver,
            session: String::new(),
            agent,
            profile,
        };
        let port = port.ok_or("chromedriver names no port")?;
        browser.session = format!("http://127.0.0.1:{port}/session");
        let folder = browser.profile.path().display();
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--window-size=1280,960".to_owned(),
            format!("--user-data-dir={folder}"),
        ];
        let options = json!({ "args": arguments });
        let capabilities = json!({ "alwaysMatch": { "goog:chromeOptions": options } });
        let created = browser.post("", &json!({ "capabilities": capabilities }))?;
        let id = created["sessionId"].as_str().ok_or("no session")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let address = format!("{}{path}", self.session);
        let mut response = self.agent.post(&address).send_json(body)?;
        let status = response.status();
        let limit = 64 << 20;
        let mut answer: Value = response.body_mut().with_config().limit(limit).read_json()?;
        if !status.is_success() {
            return Err(format!("{path}: {}", answer["value"]["message"]).into());
        }
        Ok(answer["value"].take())
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Returns the error of the driver.
    pub(crate) fn open(&self, page: &Path) -> Result<()> {
        let address = format!("file://{}", page.display());
        self.post("/url", &json!({ "url": address }))?;
        Ok(())
    }

    /// Returns the value of an expression of JavaScript.
    ///
    /// # Errors
    /// Returns the error of the script.
    pub(crate) fn evaluate(&self, expression: &str) -> Result<Value> {
        let script = format!("return {expression};");
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs statements of JavaScript.
    ///
    /// # Errors
    /// Returns the error of the script.
    pub(crate) fn execute(&self, script: &str) -> Result<()> {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))?;
        Ok(())
    }

    /// Presses keys one after the other.
    ///
    /// # Errors
    /// Returns the error of the driver.
    pub(crate) fn press(&self, keys: &[Key]) -> Result<()> {
        let actions = keys.iter().flat_map(|Key(key)| {
            let value = key.to_string();
            [
                json!({ "type": "keyDown", "value": value }),
                json!({ "type": "keyUp", "value": value }),
            ]
        });
        let actions: Vec<_> = actions.collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", &json!({ "actions": [keyboard] }))?;
        Ok(())
    }

    /// Clicks on the first element that a selector of CSS selects.
    ///
    /// # Errors
    /// Returns an error if no element matches, or if it cannot be clicked.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.post("/element", &query)?;
        let id = found[ELEMENT_KEY].as_str().ok_or("no element")?;
        self.post(&format!("/element/{id}/click"), &json!({}))?;
        Ok(())
    }

    /// Types text into the first element that a selector of CSS selects.
    ///
    /// # Errors
    /// Returns an error if no element matches.
    pub(crate) fn type_text(&self, selector: &str, text: &str) -> Result<()> {
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.post("/element", &query)?;
        let id = found[ELEMENT_KEY].as_str().ok_or("no element")?;
        self.post(&format!("/element/{id}/value"), &json!({ "text": text }))?;
        Ok(())
    }

    /// Shows the page as on a screen or on paper, light or dark.
    ///
    /// # Errors
    /// Returns the error of the driver.
    pub(crate) fn emulate(&self, medium: &str, scheme: &str) -> Result<()> {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call_devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "media": medium, "features": [feature] }),
        )?;
        Ok(())
    }

    /// Calls a method of Chromium's own protocol.
    fn call_devtools(&self, method: &str, parameters: &Value) -> Result<Value> {
        let body = json!({ "cmd": method, "params": parameters });
        self.post("/goog/cdp/execute", &body)
    }

    /// Returns the window as a PNG file.
    ///
    /// # Errors
    /// Returns the error of the driver.
    pub(crate) fn screenshot(&self) -> Result<Vec<u8>> {
        let picture = self.call_devtools("Page.captureScreenshot", &json!({ "format": "png" }))?;
        let text = picture["data"].as_str().ok_or("no picture")?;
        Ok(BASE64_STANDARD.decode(text)?)
    }

    /// Returns the page as a PDF file, printed with its own style.
    ///
    /// # Errors
    /// Returns the error of the driver.
    pub(crate) fn print(&self) -> Result<Vec<u8>> {
        let parameters = json!({ "preferCSSPageSize": true, "printBackground": true });
        let document = self.call_devtools("Page.printToPDF", &parameters)?;
        let text = document["data"].as_str().ok_or("no document")?;
        Ok(BASE64_STANDARD.decode(text)?)
    }
}
