//! HTML, as little of it as there can be. A [`Page`] is made of texts, and each is escaped where it
//! goes in.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vocab::Digest;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--warn:#b45309;--go:#0f766e}\
body{font:16px/1.5 system-ui,sans-serif;max-width:38rem;margin:8vh auto;padding:0 1.25rem}\
h1{font-size:1.45rem;line-height:1.25;margin:0 0 1rem}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;border:1px solid var(--line);\
border-radius:.5rem;padding:.8rem 1rem}dt{opacity:.7}dd{margin:0;overflow-wrap:anywhere}\
fieldset{border:1px solid var(--line);border-radius:.5rem;padding:.6rem 1rem;margin:1rem 0}\
label{display:block;padding:.2rem 0}small{opacity:.75}\
.warn{border-left:.3rem solid var(--warn);padding:.5rem 1rem;background:#b4530918}\
.mark{background:var(--warn);color:#fff;padding:.4rem 1rem;border-radius:.4rem}\
button{font:inherit;padding:.5rem 1.3rem;border-radius:.4rem;border:1px solid var(--line);\
cursor:pointer;margin:.5rem .6rem 0 0}button.go{background:var(--go);color:#fff;border-color:var(--go)}\
a.go{color:var(--go)}footer{margin-top:2.5rem;opacity:.75;font-size:.875rem}footer form{display:inline}\
footer button{padding:.1rem .6rem;margin:0 0 0 .5rem}code{overflow-wrap:anywhere}\
pre{font:.875rem/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;\
direction:ltr;unicode-bidi:bidi-override;border:1px solid var(--line);border-radius:.5rem;\
padding:.8rem 1rem}";

/// What a browser may do with our pages: show them. There is no `form-action`: some browsers hold it
/// against where an answer redirects to, and an answer redirects to the client.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Digest::of(STYLE.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'; base-uri 'none'"
    )
});

pub(super) fn policy() -> &'static str {
    &POLICY
}

/// A page that is being put together.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    body: String,
    refresh: bool,
    local: bool,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            body: String::new(),
            refresh: false,
            local: false,
        }
    }

    /// A page that says one thing.
    pub(super) fn plain(title: &str, text: &str) -> Self {
        Self::new(title).text(text)
    }

    /// Says on top that nobody but the node vouches for who is signed in.
    pub(super) const fn marked(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// Has the browser ask for the page again every few seconds.
    pub(super) const fn refreshed(mut self) -> Self {
        self.refresh = true;
        self
    }

    fn add(mut self, before: &str, text: &str, after: &str) -> Self {
        self.body.push_str(before);
        escape(text, &mut self.body);
        self.body.push_str(after);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.add("<p>", text, "</p>\n")
    }

    pub(super) fn warning(self, text: &str) -> Self {
        self.add("<p class=\"warn\">", text, "</p>\n")
    }

    pub(super) fn command(self, text: &str) -> Self {
        self.add("<p><code>", text, "</code></p>\n")
    }

    /// A text line for line and character for character, in the order of its characters whatever
    /// way they are written: none can change places with what decides about it.
    pub(super) fn pre(mut self, text: &str) -> Self {
        // A line break right after the tag is not shown.
        self.body.push_str("<pre dir=\"ltr\">\n");
        for (nth, line) in text.split('\n').enumerate() {
            if nth > 0 {
                self.body.push('\n');
            }
            escape(line, &mut self.body);
        }
        self.body.push_str("</pre>\n");
        self
    }

    pub(super) fn link(mut self, to: &str, text: &str) -> Self {
        self.body.push_str("<p><a class=\"go\" href=\"");
        escape(to, &mut self.body);
        self.add("\">", text, "</a></p>\n")
    }

    /// Names and what they are.
    pub(super) fn table<'a>(mut self, rows: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.body.push_str("<dl>\n");
        for (name, value) in rows {
            self = self
                .add("<dt>", name, "</dt>")
                .add("<dd>", &value, "</dd>\n");
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// A form that carries these names and values unseen.
    pub(super) fn form(mut self, to: &str, hidden: &[(&str, &str)]) -> Self {
        self.body.push_str("<form method=\"post\" action=\"");
        escape(to, &mut self.body);
        self.body.push_str("\">\n");
        for (name, value) in hidden {
            self.body.push_str("<input type=\"hidden\" name=\"");
            escape(name, &mut self.body);
            self.body.push_str("\" value=\"");
            escape(value, &mut self.body);
            self.body.push_str("\">\n");
        }
        self
    }

    /// A group of choices, the first of them chosen: value, text, and what is said beside it.
    /// The first is chosen if it has nothing beside it that may keep it from being the one.
    pub(super) fn choices(
        mut self,
        legend: &str,
        name: &str,
        all: &[(String, String, String)],
    ) -> Self {
        self = self.add("<fieldset><legend>", legend, "</legend>\n");
        for (index, (value, text, beside)) in all.iter().enumerate() {
            let checked = if index == 0 && beside.is_empty() {
                " checked"
            } else {
                " required"
            };
            let _infallible = write!(self.body, "<label><input type=\"radio\"{checked} name=\"");
            escape(name, &mut self.body);
            self.body.push_str("\" value=\"");
            escape(value, &mut self.body);
            self = self
                .add("\"> ", text, " ")
                .add("<small>", beside, "</small></label>\n");
        }
        self.body.push_str("</fieldset>\n");
        self
    }

    /// A button of the form: the first of a page is the one that does it.
    pub(super) fn button(mut self, value: &str, text: &str, go: bool) -> Self {
        let class = if go { " class=\"go\"" } else { "" };
        let _infallible = write!(self.body, "<button{class} name=\"answer\" value=\"");
        escape(value, &mut self.body);
        self.add("\">", text, "</button>\n")
    }

    pub(super) fn end_form(mut self) -> Self {
        self.body.push_str("</form>\n");
        self
    }

    /// Says who is signed in, and lets them leave.
    pub(super) fn signed_in(mut self, name: &str, form: &str) -> Self {
        self.body.push_str("<footer>");
        self = self.add("You are signed in as ", name, ".");
        self = self.form("/logout", &[("form", form)]);
        self.body
            .push_str("<button>Not you? Sign out</button></form></footer>\n");
        self
    }

    /// The whole page.
    pub(super) fn text_of(&self) -> String {
        let mut out =
            String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
        if self.refresh {
            out.push_str("<meta http-equiv=\"refresh\" content=\"3\">\n");
        }
        out.push_str("<meta name=\"viewport\" content=\"width=device-width\">\n<title>");
        escape(&self.title, &mut out);
        let _infallible = writeln!(
            out,
            " - Tipstaff</title><style>{STYLE}</style></head><body>"
        );
        if self.local {
            out.push_str(
                "<p class=\"mark\">No identity provider is configured. Whoever administers this node \
                 can sign in here as anybody: for development only.</p>\n",
            );
        }
        out.push_str("<h1>");
        escape(&self.title, &mut out);
        out.push_str("</h1>\n");
        out.push_str(&self.body);
        out.push_str("</body></html>\n");
        out
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What would hide or turn the text around it.
            c if vocab::id::invisible(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_is_markup() {
        let evil = "\"'><script>alert(1)</script>\u{202e}";
        let page = Page::new(evil)
            .text(evil)
            .warning(evil)
            .command(evil)
            .pre(evil)
            .link(evil, evil)
            .table([("a", evil.to_owned())])
            .form(evil, &[(evil, evil)])
            .choices(evil, evil, &[(evil.into(), evil.into(), evil.into())])
            .button(evil, evil, true)
            .end_form()
            .signed_in(evil, evil)
            .text_of();
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("\"'>"), "{page}");
        assert!(!page.contains('\u{202e}'));
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_text_is_shown_line_for_line() {
        let page = Page::new("a").pre("\n  one\r\n<b>\u{200b}two").text_of();
        let shown = "<pre dir=\"ltr\">\n\n  one\u{fffd}\n&lt;b&gt;\u{fffd}two</pre>";
        assert!(page.contains(shown), "{page}");
    }

    #[test]
    fn the_style_is_the_one_that_the_policy_names() {
        // A style that closes its element would be markup.
        assert!(!STYLE.contains('<'));
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(policy().contains("frame-ancestors 'none'"));
        assert!(!policy().contains("script"));
    }
}
