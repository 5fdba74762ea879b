//! Building HTML so that no text can become markup.

use std::fmt::Write as _;

/// A text with everything escaped that means something in HTML, in text and in attributes alike.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in HTML, not even escaped.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A growing piece of a page.
#[derive(Debug, Default)]
pub struct Html(String);

impl Html {
    /// Nothing yet.
    pub fn new() -> Html {
        Html::default()
    }

    /// Adds markup that this program wrote.
    pub fn markup(&mut self, markup: &str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// Adds formatted numbers and markup that this program wrote.
    pub fn format(&mut self, arguments: std::fmt::Arguments<'_>) -> &mut Html {
        self.0.write_fmt(arguments).expect("a String takes any text");
        self
    }

    /// Adds a text, escaped.
    pub fn text(&mut self, text: &str) -> &mut Html {
        self.0.push_str(&escape(text));
        self
    }

    /// Adds an element with a class around a text.
    pub fn element(&mut self, tag: &'static str, class: &'static str, text: &str) -> &mut Html {
        self.format(format_args!("<{tag} class=\"{class}\">")).text(text).format(format_args!("</{tag}>"))
    }

    /// The finished piece.
    pub fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let mut html = Html::new();
        html.element("p", "x", "<script>alert('\"&')</script>\u{0}");
        let expected = "<p class=\"x\">&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;\u{fffd}</p>";
        assert_eq!(html.finish(), expected);
    }
}
