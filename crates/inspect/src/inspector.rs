//! One inspection: layers of a document, each searched, each decoded into further ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use vocab::limits;

use crate::decode::{self, Decoded};
use crate::finding::{
    Class, Confidence, Encoding, Encodings, Finding, Findings, Uninspectable, rank,
};
use crate::hidden::{self, Folding};
use crate::lexer::{self, Kind, Token};
use crate::personal;
use crate::rules::{Against, Allow, Detector, Group, Looks, Pattern, Rule, RuleError, Rules};
use crate::view::{Builder, Layer, View, unescaped};

/// Bytes of keywords up to which the automaton is a table: faster, and larger.
const KEYWORD_BYTES_IN_TABLE: usize = 16 * 1024;
/// How far from something a word may stand that says what it is, in bytes before and behind.
const CONTEXT_BYTES: (usize, usize) = (64, 24);
/// How much of a line an imported allow list may look at to either side, in bytes.
const LINE_BYTES: usize = 512;

/// Looks into what passes. Made once from rules; a clone is a pointer. Other rules are another
/// inspector, put in the place of this one.
#[derive(Debug, Clone)]
pub struct Inspector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// The rules of each keyword.
    by_keyword: Vec<Vec<usize>>,
    /// Rules without a keyword.
    always: Vec<usize>,
    /// The rule of each detector that one names.
    by_detector: [Option<usize>; Detector::COUNT],
    folding: Folding,
}

impl Inspector {
    /// An inspector that looks for what the rules say.
    pub fn new(rules: Rules) -> Result<Self, RuleError> {
        let Rules(rules) = rules;
        let mut words: Vec<&str> = Vec::new();
        let mut by_keyword: Vec<Vec<usize>> = Vec::new();
        let mut always = Vec::new();
        let mut by_detector = [None; Detector::COUNT];
        for (index, rule) in rules.iter().enumerate() {
            match &rule.looks {
                Looks::Detector { detector, .. } => {
                    if let Some(place) = by_detector.get_mut(detector.index()) {
                        *place = Some(index);
                    }
                }
                Looks::Pattern(pattern) if pattern.keywords.is_empty() => always.push(index),
                Looks::Pattern(pattern) => {
                    for keyword in &pattern.keywords {
                        let at = words.iter().position(|word| word == keyword);
                        let at = at.unwrap_or_else(|| {
                            words.push(keyword);
                            by_keyword.push(Vec::new());
                            words.len() - 1
                        });
                        if let Some(of) = by_keyword.get_mut(at) {
                            of.push(index);
                        }
                    }
                }
            }
        }
        let bytes: usize = words.iter().map(|word| word.len()).sum();
        let kind = (bytes <= KEYWORD_BYTES_IN_TABLE).then_some(AhoCorasickKind::DFA);
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(kind)
            .build(&words)
            .map_err(|error| RuleError::Keywords {
                why: error.to_string(),
            })?;
        Ok(Self(Arc::new(Inner {
            keywords,
            by_keyword,
            always,
            by_detector,
            folding: Folding::new(),
            rules,
        })))
    }

    /// An inspector with the rules that ship.
    pub fn built_in() -> Result<Self, RuleError> {
        Self::new(Rules::built_in()?)
    }

    /// What it looks for.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.0.rules.iter()
    }

    /// Looks into a JSON document. Spans are those of its bytes; escapes are undone first.
    pub fn inspect_json(&self, json: &[u8]) -> Findings {
        let mut scan = Scan::new(&self.0, json);
        let json = scan.within_size(json);
        match lexer::all(json) {
            Ok(tokens) => {
                let view = unescaped(json);
                scan.document(&view);
                scan.text_blocks(json, &tokens);
            }
            Err(at) => {
                scan.uninspectable(Uninspectable::Json, at..json.len());
                scan.document(&View::same(json));
            }
        }
        scan.finish()
    }

    /// Looks into text that is no JSON: an error's body, a line of a log.
    pub fn inspect_text(&self, text: &[u8]) -> Findings {
        let mut scan = Scan::new(&self.0, text);
        let text = scan.within_size(text);
        scan.document(&View::same(text));
        scan.finish()
    }

    /// What lies across the end of something earlier: `carry` is how that ended, `head` how this
    /// begins, which stands at `at` in the document. Gives what begins in the one and ends in the other.
    pub(crate) fn inspect_seam(
        &self,
        document: &[u8],
        carry: &[u8],
        head: impl FnOnce(&mut Builder),
        at: usize,
    ) -> Findings {
        let mut scan = Scan::new(&self.0, document);
        let mut builder = Builder::default();
        builder.replace(carry, at..at);
        head(&mut builder);
        scan.seams = vec![carry.len()];
        scan.begun_before = true;
        let view = builder.finish();
        scan.top(&view, Encodings::default().with(Encoding::Split));
        scan.finish()
    }
}

/// How a layer is looked into.
#[derive(Clone, Copy)]
struct How {
    depth: usize,
    via: Encodings,
    /// It has been rid of hidden characters.
    folded: bool,
    /// It may be binary: only patterns of secrets mean something there.
    binary: bool,
}

struct Scan<'i> {
    inner: &'i Inner,
    document: &'i [u8],
    findings: Vec<Finding>,
    /// Bytes that may still be decoded.
    budget: usize,
    /// It was said that more was there than is decoded.
    is_over_budget: bool,
    /// Rules whose keyword the present layer has.
    candidates: Vec<bool>,
    /// Only what lies across one of these places of the lowest layer counts; none: all counts.
    seams: Vec<usize>,
    begun_before: bool,
}

impl<'i> Scan<'i> {
    fn new(inner: &'i Inner, document: &'i [u8]) -> Self {
        Self {
            inner,
            document,
            findings: Vec::new(),
            budget: document.len() * 2 + limits::INSPECT_DECODED_BYTES_MIN,
            is_over_budget: false,
            candidates: vec![false; inner.rules.len()],
            seams: Vec::new(),
            begun_before: false,
        }
    }

    /// The document as far as it is inspected; what is beyond is a finding.
    fn within_size<'d>(&mut self, document: &'d [u8]) -> &'d [u8] {
        let max = limits::RESPONSE_BYTES_MAX;
        match document.get(..max) {
            Some(inspected) if document.len() > max => {
                self.uninspectable(Uninspectable::Size, max..document.len());
                inspected
            }
            _ => document,
        }
    }

    /// A document as it came, but for its escapes.
    fn document(&mut self, view: &View<'_>) {
        if let Err(error) = std::str::from_utf8(view.bytes()) {
            // One finding says it; what is valid around it is looked into all the same.
            let bad = error.valid_up_to();
            let end = error
                .error_len()
                .map_or(view.bytes().len(), |len| bad + len);
            self.uninspectable(Uninspectable::Utf8, view.below(bad..end));
        }
        self.top(view, Encodings::default());
    }

    fn top(&mut self, view: &View<'_>, via: Encodings) {
        let layer = Layer { view, below: None };
        let how = How {
            depth: 0,
            via,
            folded: false,
            binary: false,
        };
        self.layer(&layer, how);
    }

    fn layer(&mut self, layer: &Layer<'_>, how: How) {
        if self.findings.len() >= limits::INSPECT_FINDINGS_MAX {
            return;
        }
        self.patterns(layer, how);
        let text = layer.view.bytes();
        if !how.binary {
            personal::scan(text, &mut |detector, span, form| {
                self.detected(layer, how, detector, span, form);
            });
            if !how.folded && hidden::may_have(text) {
                self.hidden(layer, how);
            }
        }
        self.encoded(layer, how);
    }

    /// A layer on top of this one.
    fn above(&mut self, layer: &Layer<'_>, how: How, view: &View<'_>, of: Range<usize>) {
        let Some(left) = self.budget.checked_sub(view.bytes().len()) else {
            let span = self.raw(layer, of);
            self.uninspectable(Uninspectable::Budget, span);
            return;
        };
        self.budget = left;
        let above = Layer {
            view,
            below: Some(layer),
        };
        self.layer(&above, how);
    }

    fn patterns(&mut self, layer: &Layer<'_>, how: How) {
        let inner = self.inner;
        let text = layer.view.bytes();
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.fill(false);
        for index in &inner.always {
            if let Some(place) = candidates.get_mut(*index) {
                *place = true;
            }
        }
        for found in inner.keywords.find_overlapping_iter(text) {
            let rules = inner.by_keyword.get(found.pattern().as_usize());
            for index in rules.into_iter().flatten() {
                if let Some(place) = candidates.get_mut(*index) {
                    *place = true;
                }
            }
        }
        for (rule, _) in inner
            .rules
            .iter()
            .zip(&candidates)
            .filter(|(_, is_candidate)| **is_candidate)
        {
            if let Looks::Pattern(pattern) = &rule.looks
                && (!how.binary || rule.class == Class::Secret)
            {
                self.pattern(layer, how, rule, pattern);
            }
        }
        self.candidates = candidates;
    }

    fn pattern(&mut self, layer: &Layer<'_>, how: How, rule: &Rule, pattern: &Pattern) {
        let text = layer.view.bytes();
        let mut groups = pattern.regex.capture_locations();
        let mut at = 0;
        for _ in 0..limits::INSPECT_MATCHES_MAX {
            let found = if at > text.len() {
                None
            } else if pattern.regex.captures_len() == 1 {
                pattern.regex.find_at(text, at).map(|found| found.range())
            } else {
                let found = pattern.regex.captures_read_at(&mut groups, text, at);
                found.map(|found| found.range())
            };
            let Some(whole) = found else { return };
            let group = match pattern.group {
                Group::At(group) => groups.get(group),
                Group::First => (1..groups.len()).find_map(|group| groups.get(group)),
            };
            let secret = match group {
                Some((start, end)) if pattern.regex.captures_len() > 1 => start..end,
                _ => whole.clone(),
            };
            if !secret.is_empty() && counts(pattern, text, &secret, &whole) {
                self.report(layer, how, rule, rule.confidence, secret);
            }
            at = whole.end.max(whole.start + 1);
        }
        if pattern.regex.is_match_at(text, at.min(text.len())) {
            let span = self.raw(layer, at..text.len());
            self.uninspectable(Uninspectable::Budget, span);
        }
    }

    fn detected(
        &mut self,
        layer: &Layer<'_>,
        how: How,
        detector: Detector,
        span: Range<usize>,
        form: personal::Form,
    ) {
        let inner = self.inner;
        let Some(rule) = inner
            .by_detector
            .get(detector.index())
            .copied()
            .flatten()
            .and_then(|index| inner.rules.get(index))
        else {
            return;
        };
        let mut confidence = rule.confidence;
        if let Looks::Detector {
            context,
            context_needed,
            ..
        } = &rule.looks
        {
            let has_context = has_context(layer.view.bytes(), &span, context);
            if *context_needed && !has_context && form == personal::Form::Bare {
                return;
            }
            if has_context && confidence == Confidence::Low {
                confidence = Confidence::Medium;
            } else if has_context {
                confidence = Confidence::High;
            }
        }
        self.report(layer, how, rule, confidence, span);
    }

    fn hidden(&mut self, layer: &Layer<'_>, how: How) {
        let seen = hidden::look(layer.view.bytes(), &self.inner.folding);
        // A character that is written out, as `\u{200b}` in source code, is not hidden.
        if !how.via.has(Encoding::Escapes) {
            for (detector, span) in seen.found {
                self.detected(layer, how, detector, span, personal::Form::Own);
            }
        }
        for (view, of) in &seen.written {
            let how = How {
                depth: how.depth + 1,
                via: how.via.with(Encoding::Hidden),
                folded: true,
                binary: false,
            };
            self.deeper(layer, how, view, of.clone());
        }
        if let Some(view) = &seen.folded {
            let how = How {
                via: how.via.with(Encoding::Disguise),
                folded: true,
                ..how
            };
            self.above(layer, how, view, 0..layer.view.bytes().len());
        }
    }

    fn encoded(&mut self, layer: &Layer<'_>, how: How) {
        let text = layer.view.bytes();
        if !how.binary
            && let Some(view) = decode::escapes(text)
        {
            let how = How {
                depth: how.depth + 1,
                via: how.via.with(Encoding::Escapes),
                ..how
            };
            self.deeper(layer, how, &view, 0..text.len());
        }
        decode::runs(text, &mut |run, decoded| match decoded {
            Decoded::Text {
                bytes,
                encoding,
                is_all_text,
            } => {
                if is_all_text {
                    let (detector, form) = (Detector::EncodedText, personal::Form::Own);
                    self.detected(layer, how, detector, run.clone(), form);
                }
                let how = How {
                    depth: how.depth + 1,
                    via: how.via.with(encoding),
                    folded: false,
                    binary: !is_all_text,
                };
                let view = View::whole(&bytes, run.clone());
                self.deeper(layer, how, &view, run);
            }
            Decoded::Opaque(reason) => {
                let span = self.raw(layer, run);
                self.uninspectable(reason, span);
            }
        });
    }

    /// What was decoded, unless that has been done too often.
    fn deeper(&mut self, layer: &Layer<'_>, how: How, view: &View<'_>, of: Range<usize>) {
        if how.depth > limits::INSPECT_DEPTH_MAX {
            let span = self.raw(layer, of);
            self.uninspectable(Uninspectable::Depth, span);
        } else {
            self.above(layer, how, view, of);
        }
    }

    /// The blocks of text in one result are one text to whoever reads it: what begins in one and ends
    /// in the next is looked for too.
    fn text_blocks(&mut self, json: &[u8], tokens: &[Token]) {
        let mut before = None;
        let mut by_path: BTreeMap<u64, Vec<Range<usize>>> = BTreeMap::new();
        for token in tokens {
            match token.kind {
                Kind::Name => {
                    let is_text = json.get(token.span.clone()) == Some(b"text");
                    before = is_text.then_some(token.path);
                }
                Kind::String if before == Some(token.path) => {
                    by_path
                        .entry(token.path)
                        .or_default()
                        .push(token.span.clone());
                }
                Kind::String | Kind::Number => {}
            }
        }
        for spans in by_path.values().filter(|spans| spans.len() > 1) {
            let mut builder = Builder::default();
            let mut ends = Vec::new();
            for span in spans {
                ends.extend((builder.len() > 0).then(|| builder.len()));
                edges(&mut builder, json, span.clone());
            }
            self.seams = ends;
            let view = builder.finish();
            self.top(&view, Encodings::default().with(Encoding::Split));
        }
        self.seams.clear();
    }

    fn report(
        &mut self,
        layer: &Layer<'_>,
        how: How,
        rule: &Rule,
        confidence: Confidence,
        span: Range<usize>,
    ) {
        let length = span.len();
        let (lowest, base) = layer.lowest(span);
        let mut parts = vec![base.clone()];
        if !self.seams.is_empty() {
            let crossed = self
                .seams
                .iter()
                .filter(|seam| base.start < **seam && **seam < base.end);
            for seam in crossed {
                let rest = parts.last().cloned().unwrap_or_default();
                parts.pop();
                parts.extend([rest.start..*seam, *seam..rest.end]);
            }
            if parts.len() == 1 {
                return;
            }
        }
        for part in parts {
            if self.findings.len() >= limits::INSPECT_FINDINGS_MAX {
                return;
            }
            let span = self.whole_characters(lowest.below(part));
            // What stood in an earlier event has no place in this one.
            if span.is_empty() {
                continue;
            }
            self.findings.push(Finding {
                rule: Arc::clone(&rule.id),
                class: rule.class,
                confidence,
                span,
                length,
                via: how.via,
                begun_before: self.begun_before,
                shape: rule.shape(),
            });
        }
    }

    fn uninspectable(&mut self, reason: Uninspectable, span: Range<usize>) {
        // Of the others what lies between the seams has said it. That there is more across them than
        // is told is said nowhere else.
        if !self.seams.is_empty() && reason != Uninspectable::Budget {
            return;
        }
        let is_full = self.findings.len() >= limits::INSPECT_FINDINGS_MAX;
        let is_budget = reason == Uninspectable::Budget;
        // Of the many places where a budget ends, the first says it; that there are too many findings
        // is said at the end.
        if is_full || (is_budget && self.is_over_budget) {
            return;
        }
        self.is_over_budget |= is_budget;
        let span = self.whole_characters(span);
        self.findings.push(reason.finding(span));
    }

    fn raw(&self, layer: &Layer<'_>, span: Range<usize>) -> Range<usize> {
        let (lowest, base) = layer.lowest(span);
        self.whole_characters(lowest.below(base))
    }

    /// Patterns are held against bytes and may end within a character; a span does not.
    fn whole_characters(&self, span: Range<usize>) -> Range<usize> {
        let is_inside = |at: usize| {
            self.document
                .get(at)
                .is_some_and(|byte| (0x80..0xc0).contains(byte))
        };
        let Range { mut start, mut end } = span;
        // No more than three: a longer row of such bytes is not UTF-8.
        for _ in 0..3 {
            if start > 0 && is_inside(start) {
                start -= 1;
            }
            if is_inside(end) {
                end += 1;
            }
        }
        start..end
    }

    /// In the order of the document, each thing once.
    fn finish(self) -> Findings {
        let mut findings = self.findings;
        let is_full = findings.len() >= limits::INSPECT_FINDINGS_MAX;
        let weight = |finding: &Finding| {
            (
                finding.span.start,
                finding.span.end,
                rank(finding.class),
                Arc::clone(&finding.rule),
                finding.via.count(),
            )
        };
        findings.sort_by_cached_key(weight);
        findings.dedup_by(|later, first| later.rule == first.rule && later.span == first.span);
        // That a key is readable text, encoded, says nothing more.
        let named: Vec<Range<usize>> = findings
            .iter()
            .filter(|it| matches!(it.class, Class::Secret | Class::Personal))
            .map(|it| it.span.clone())
            .collect();
        let mut open = named.iter().peekable();
        let mut furthest = 0;
        findings.retain(|finding| {
            while let Some(span) = open.next_if(|span| span.start <= finding.span.start) {
                furthest = furthest.max(span.end);
            }
            finding.class != Class::Encoded || finding.span.end > furthest
        });
        if is_full {
            findings.push(Uninspectable::Budget.finding(0..self.document.len()));
        }
        Findings(findings)
    }
}

/// Copies a string of a JSON document without its escapes: all of it if it is short, else how it
/// begins and how it ends.
fn edges(builder: &mut Builder, json: &[u8], span: Range<usize>) {
    let edge = limits::INSPECT_TAIL_BYTES;
    if span.len() <= 2 * edge {
        builder.unescape(json, span);
        return;
    }
    let (start, end) = (span.start, span.end);
    builder.unescape(json, start..after_escape(json, start + edge));
    builder.gap();
    builder.unescape(json, after_escape(json, end - edge)..end);
}

/// The first place from `at` on that is not within an escape or a character.
pub(crate) fn after_escape(json: &[u8], at: usize) -> usize {
    let from = at.saturating_sub(12);
    let before = json.get(from..at).unwrap_or_default();
    let Some(back) = memchr::memrchr(b'\\', before) else {
        return at;
    };
    // Behind the longest escape that could have begun there, pairs of surrogates included.
    let behind = (from + back + 12).min(json.len());
    match json.get(at..behind) {
        Some(rest) => at + memchr::memchr2(b'\\', b'"', rest).unwrap_or(rest.len()),
        None => at,
    }
}

fn counts(pattern: &Pattern, text: &[u8], secret: &Range<usize>, whole: &Range<usize>) -> bool {
    let bytes = text.get(secret.clone()).unwrap_or_default();
    if pattern.entropy.is_some_and(|least| entropy(bytes) < least) {
        return false;
    }
    !pattern
        .allow
        .iter()
        .any(|allow| is_allowed(allow, text, bytes, whole))
}

fn is_allowed(allow: &Allow, text: &[u8], secret: &[u8], whole: &Range<usize>) -> bool {
    let against = match allow.against {
        Against::Secret => secret,
        Against::Match => text.get(whole.clone()).unwrap_or_default(),
        Against::Line => line(text, whole),
    };
    let by_pattern = allow.patterns.iter().any(|it| it.is_match(against));
    let by_word = allow
        .stop_words
        .as_ref()
        .is_some_and(|words| words.is_match(secret));
    if allow.all {
        !allow.elsewhere
            && (by_pattern || allow.patterns.is_empty())
            && (by_word || allow.stop_words.is_none())
            && (by_pattern || by_word)
    } else {
        by_pattern || by_word
    }
}

fn line<'t>(text: &'t [u8], span: &Range<usize>) -> &'t [u8] {
    let from = span.start.saturating_sub(LINE_BYTES);
    let to = (span.end + LINE_BYTES).min(text.len());
    let before = text.get(from..span.start).unwrap_or_default();
    let behind = text.get(span.end..to).unwrap_or_default();
    let start = memchr::memrchr(b'\n', before).map_or(from, |at| from + at + 1);
    let end = memchr::memchr(b'\n', behind).map_or(to, |at| span.end + at);
    text.get(start..end).unwrap_or_default()
}

/// Shannon's entropy of the bytes, in bits a byte.
#[expect(
    clippy::cast_precision_loss,
    reason = "a secret is far shorter than 2^52 bytes"
)]
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let len = bytes.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / len;
            -share * share.log2()
        })
        .sum()
}

fn has_context(text: &[u8], span: &Range<usize>, words: &[String]) -> bool {
    if words.is_empty() {
        return false;
    }
    let (before, behind) = CONTEXT_BYTES;
    let from = span.start.saturating_sub(before);
    let to = (span.end + behind).min(text.len());
    let mut near = text.get(from..span.start).unwrap_or_default().to_vec();
    near.push(b' ');
    near.extend_from_slice(text.get(span.end..to).unwrap_or_default());
    near.make_ascii_lowercase();
    words
        .iter()
        .any(|word| memchr::memmem::find(&near, word.as_bytes()).is_some())
}

#[cfg(test)]
mod tests;
