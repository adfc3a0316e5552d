//! WGSL modules taken apart into declarations, so that kernels of several modules can stand in one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use super::Kernel;

/// A kernel's text as a part of a larger module: all that its entry point reaches, under names that no other
/// part has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// The declarations, but those of bindings. The entry point is a plain function.
    pub text: String,
    /// Declarations that every part has alike, by their names.
    pub common: BTreeMap<String, String>,
    /// The function's name.
    pub function: String,
    /// What it wants to know of a thread, in the order of its parameters.
    pub builtins: Vec<String>,
    /// The elements of each binding that it reaches, by number: `f32`, `u32`, `vec4<f32>`, …
    pub elements: BTreeMap<usize, String>,
    /// The `override`s that it reaches, by the names that they have in the kernel's own module.
    pub overrides: BTreeSet<String>,
    /// Whether threads of a workgroup wait for each other or share memory.
    pub shares: bool,
}

/// What several kernels may share if they all declare it alike.
const COMMON: &str = include_str!("../../shaders/shared/single.wgsl");

impl Kernel {
    /// The kernel as a part of a larger module, in which its names begin with `prefix` and its bindings have the
    /// names that `binding` gives; `None` for text that needs something beyond WGSL's core, or that is not
    /// understood.
    pub(crate) fn part(&self, prefix: &str, binding: impl Fn(usize) -> String) -> Option<Part> {
        let items = items(self.source)?;
        let named: HashMap<&str, &Item<'_>> = items.iter().map(|i| (i.name, i)).collect();
        // Two declarations of one name are not WGSL.
        if named.len() < items.len() {
            return None;
        }
        let common = items_by_name(COMMON);
        let is_common = |item: &Item<'_>| common.get(item.name) == Some(&item.plain());
        let mut part = Part {
            text: String::new(),
            common: BTreeMap::new(),
            function: format!("{prefix}{}", self.name),
            builtins: vec![],
            elements: BTreeMap::new(),
            overrides: BTreeSet::new(),
            shares: false,
        };
        let mut names: HashMap<&str, String> = HashMap::new();
        let reached = reached(&named, self.name)?;
        for &name in &reached {
            let item = named[name];
            let new = match item.binding() {
                Some(at) => {
                    part.elements.insert(at, item.element()?);
                    binding(at)
                }
                None if is_common(item) => name.into(),
                None => format!("{prefix}{name}"),
            };
            names.insert(name, new);
        }
        for item in items.iter().filter(|item| reached.contains(item.name)) {
            part.shares |= item.is("workgroup") || item.calls("workgroupBarrier");
            if item.tokens[item.keyword].text == "override" {
                part.overrides.insert(item.name.into());
            }
            if item.binding().is_some() {
                continue;
            }
            if is_common(item) {
                part.common.insert(item.name.into(), item.plain());
                continue;
            }
            if item.is_entry() {
                if item.name != self.name {
                    return None;
                }
                part.builtins = item.builtins()?;
            }
            // Writing to a String does not fail.
            let _ = writeln!(part.text, "\n{}", item.renamed(&names));
        }
        Some(part)
    }
}

fn items_by_name(source: &str) -> HashMap<&str, String> {
    let items = items(source).unwrap_or_default();
    items.into_iter().map(|i| (i.name, i.plain())).collect()
}

/// The names of what a declaration uses, and what these use, itself included.
fn reached<'a>(named: &HashMap<&'a str, &Item<'a>>, entry: &str) -> Option<BTreeSet<&'a str>> {
    let mut reached = BTreeSet::new();
    let mut open = vec![named.get(entry)?.name];
    while let Some(name) = open.pop() {
        if reached.insert(name) {
            let words = named[name].tokens.iter().map(|t| t.text);
            open.extend(words.filter_map(|word| named.get(word).map(|item| item.name)));
        }
    }
    Some(reached)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An identifier or a keyword.
    Word,
    /// A number.
    Number,
    /// One character that is neither.
    Mark,
}

/// A token; spaces and comments are none.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// Whether a line begins between it and the one before.
    line: bool,
    /// Whether there is a space between it and the one before.
    space: bool,
}

fn tokens(source: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let (mut line, mut space) = (false, false);
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            (line, space) = (line || first == '\n', true);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
            continue;
        }
        // This crate's shaders have no others.
        if rest.starts_with("/*") {
            return None;
        }
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let (kind, end) = if first.is_ascii_digit() {
            let end = rest.find(|c: char| !is_name(c) && c != '.');
            (Kind::Number, end.unwrap_or(rest.len()))
        } else if is_name(first) {
            let end = rest.find(|c: char| !is_name(c));
            (Kind::Word, end.unwrap_or(rest.len()))
        } else {
            (Kind::Mark, first.len_utf8())
        };
        let (text, after) = rest.split_at(end);
        tokens.push(Token {
            kind,
            text,
            line,
            space,
        });
        (line, space) = (false, false);
        rest = after;
    }
    Some(tokens)
}

/// A declaration at module scope.
#[derive(Clone, Debug)]
struct Item<'a> {
    name: &'a str,
    /// Where the attributes end: the place of `fn`, `var`, `const`, …
    keyword: usize,
    tokens: Vec<Token<'a>>,
}

/// A module's declarations; `None` for what is not understood.
fn items(source: &str) -> Option<Vec<Item<'_>>> {
    let mut items = Vec::new();
    let (mut open, mut depth) = (Vec::new(), 0usize);
    for token in tokens(source)? {
        // What a module asks for beyond the core is asked of all of it.
        if open.is_empty() && matches!(token.text, "enable" | "requires" | "diagnostic") {
            return None;
        }
        open.push(token);
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 && matches!(token.text, ";" | "}") {
            let tokens = std::mem::take(&mut open);
            // A lone semicolon declares nothing.
            if tokens.len() > 1 {
                items.push(Item::of(tokens)?);
            }
        }
    }
    open.is_empty().then_some(items)
}

impl<'a> Item<'a> {
    fn of(tokens: Vec<Token<'a>>) -> Option<Self> {
        let mut keyword = 0;
        while tokens.get(keyword)?.text == "@" {
            keyword += 2;
            if tokens.get(keyword)?.text == "(" {
                keyword += closing(&tokens[keyword..])? + 1;
            }
        }
        let kinds = ["fn", "var", "const", "override", "struct", "alias"];
        if !kinds.contains(&tokens[keyword].text) {
            return None;
        }
        let mut name = keyword + 1;
        if tokens.get(name)?.text == "<" {
            name += tokens[name..].iter().position(|t| t.text == ">")? + 1;
        }
        let named = tokens.get(name).filter(|t| t.kind == Kind::Word)?;
        Some(Self {
            name: named.text,
            keyword,
            tokens,
        })
    }

    /// Its own text, in one line.
    fn plain(&self) -> String {
        let words: Vec<&str> = self.tokens.iter().map(|t| t.text).collect();
        words.join(" ")
    }

    /// Whether it is a variable of this address space.
    fn is(&self, space: &str) -> bool {
        let own = &self.tokens[self.keyword..];
        own[0].text == "var" && own.get(2).is_some_and(|t| t.text == space)
    }

    fn calls(&self, function: &str) -> bool {
        self.tokens.iter().any(|t| t.text == function)
    }

    fn is_entry(&self) -> bool {
        let attributes = self.tokens[..self.keyword].iter();
        attributes.into_iter().any(|t| t.text == "compute")
    }

    /// The number of a binding.
    fn binding(&self) -> Option<usize> {
        let attributes = &self.tokens[..self.keyword];
        let at = attributes.iter().position(|t| t.text == "binding")?;
        attributes.get(at + 2)?.text.parse().ok()
    }

    /// The elements of a binding, which is an array of any length.
    fn element(&self) -> Option<String> {
        let at = self.tokens.iter().position(|t| t.text == "array")?;
        let inside = self.tokens.get(at + 2..)?;
        let end = inside.iter().rposition(|t| t.text == ">")?;
        let words: Vec<&str> = inside[..end].iter().map(|t| t.text).collect();
        // An array of some length would have a comma.
        (!words.is_empty() && !words.contains(&",")).then(|| words.concat())
    }

    /// The builtins of an entry point, in the order of its parameters.
    fn builtins(&self) -> Option<Vec<String>> {
        let own = &self.tokens[self.keyword + 2..];
        let parameters = &own[1..closing(own)?];
        let mut builtins = Vec::new();
        for (at, token) in parameters.iter().enumerate() {
            if token.text == "builtin" {
                builtins.push(parameters.get(at + 2)?.text.into());
            }
        }
        Some(builtins)
    }

    /// Its text without attributes, by other names. Members of structures keep theirs.
    fn renamed(&self, names: &HashMap<&str, String>) -> String {
        let own = &self.tokens[self.keyword..];
        let structure = own[0].text == "struct";
        let mut text = String::new();
        let mut at = 0;
        while at < own.len() {
            let token = own[at];
            // `@builtin(…)` of a parameter.
            if token.text == "@" {
                at += 2;
                if own.get(at).is_some_and(|t| t.text == "(") {
                    at += closing(&own[at..]).unwrap_or(0) + 1;
                }
                continue;
            }
            text += match (token.line, token.space) {
                (true, _) => "\n",
                (false, true) => " ",
                (false, false) => "",
            };
            let before = at.checked_sub(1).map(|at| own[at].text);
            let next = own.get(at + 1).map(|t| t.text);
            let member = before == Some(".") || (structure && next == Some(":"));
            let new = names
                .get(token.text)
                .filter(|_| token.kind == Kind::Word && !member);
            text += new.map_or(token.text, String::as_str);
            at += 1;
        }
        text
    }
}

/// The place of the bracket that closes the first one.
fn closing(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Args, Bind};

    fn nothing<T>(_: &mut Args<'_, T>) {}

    fn kernel(name: &'static str, source: &'static str) -> Kernel {
        const BINDINGS: &[Bind] = &[Bind::read("x"), Bind::write("y")];
        Kernel::new(name, source, BINDINGS, &["N"], crate::reference!(nothing))
    }

    fn part(name: &'static str, source: &'static str) -> Option<Part> {
        kernel(name, source).part("p_", |at| format!("b{at}"))
    }

    const TWO: &str = "
        override N: u32 = 1u;
        override UNUSED: u32 = N;
        // scale
        struct Pair { scale: f32, x: f32, }
        const scale: f32 = 2.0;
        @group(0) @binding(0) var<storage, read> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @group(0) @binding(1) var<storage, read_write> fours: array<vec4<u32>>;
        fn twice(i: u32) -> Pair { let pair = Pair(scale, x[i]); return pair; }
        @compute @workgroup_size(64)
        fn one(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,) {
            let x0 = twice(lane);
            if lane < N { y[lane] = x0.scale * x0.x; }
        }
        @compute @workgroup_size(8) fn other() { fours[0] = vec4(UNUSED); }";

    #[test]
    fn a_part_has_what_its_entry_point_reaches_under_names_of_its_own() {
        let one = part("one", TWO).unwrap();
        let text: String = one.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = "override p_N: u32 = 1u; struct p_Pair { scale: f32, x: f32, } \
                      const p_scale: f32 = 2.0; \
                      fn p_twice(i: u32) -> p_Pair { let pair = p_Pair(p_scale, b0[i]); return pair; } \
                      fn p_one( group: vec3<u32>, lane: u32,) { let x0 = p_twice(lane); \
                      if lane < p_N { b1[lane] = x0.scale * x0.x; } }";
        assert_eq!(text, wanted);
        assert_eq!(one.function, "p_one");
        assert_eq!(one.builtins, ["workgroup_id", "local_invocation_index"]);
        let elements: Vec<_> = one.elements.into_iter().collect();
        assert_eq!(elements, [(0, "f32".to_string()), (1, "f32".to_string())]);
        assert!(!one.shares);
        assert!(one.overrides.contains("N") && one.overrides.len() == 1);
        let other = part("other", TWO).unwrap();
        assert_eq!(other.elements[&1], "vec4<u32>");
        assert!(other.text.contains("p_UNUSED") && !other.text.contains("p_twice"));
    }

    #[test]
    fn waiting_and_shared_memory_are_seen_where_they_are_reached() {
        const SHARES: &str = "
            var<workgroup> sums: array<f32, 8>;
            fn wait() { workgroupBarrier(); }
            fn deep() { wait(); }
            @compute @workgroup_size(8) fn waits() { deep(); }
            @compute @workgroup_size(8) fn keeps() { sums[0] = 1.0; }
            @compute @workgroup_size(8) fn neither() {}";
        assert!(part("waits", SHARES).unwrap().shares);
        assert!(part("keeps", SHARES).unwrap().shares);
        assert!(!part("neither", SHARES).unwrap().shares);
    }

    #[test]
    fn what_all_parts_declare_alike_keeps_its_name() {
        const SAME: &str = "override THREADS: u32 = 256u;\nconst SHARED: u32 = 4096u;\n\
                            var<workgroup> shares: array<f32, SHARED>;\n\
                            @compute @workgroup_size(THREADS) fn one() { shares[THREADS] = 1.0; }";
        const OTHER: &str = "const THREADS: u32 = 256u;\n\
                             @compute @workgroup_size(THREADS) fn one() { let t = THREADS; }";
        let same = part("one", SAME).unwrap();
        let names: Vec<&str> = same.common.keys().map(String::as_str).collect();
        assert_eq!(names, ["SHARED", "THREADS", "shares"]);
        assert!(!same.text.contains("p_THREADS"));
        let other = part("one", OTHER).unwrap();
        assert!(other.common.is_empty() && other.text.contains("let t = p_THREADS"));
    }

    #[test]
    fn what_is_not_understood_is_no_part() {
        assert!(
            part(
                "one",
                "enable f16;\n@compute @workgroup_size(1) fn one() {}"
            )
            .is_none()
        );
        assert!(part("missing", TWO).is_none());
        assert!(part("one", "@compute @workgroup_size(1) fn one() {").is_none());
        assert!(part("one", "/* why */ @compute @workgroup_size(1) fn one() {}").is_none());
        assert!(
            part(
                "one",
                "import one;\n@compute @workgroup_size(1) fn one() {}"
            )
            .is_none()
        );
    }
}
