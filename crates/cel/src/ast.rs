//! The tree of an expression. Invariant: no deeper than [`DEPTH_MAX`](crate::DEPTH_MAX), so walking it and dropping it need a
//! bounded stack; nodes are made by [`Node::new`] alone.

use crate::DEPTH_MAX;
use crate::error::{CelError, Problem};
use crate::functions::Function;
use crate::value::Value;

#[derive(Debug)]
pub(crate) struct Node {
    /// Where it is, in characters from 1.
    pub(crate) at: usize,
    depth: u8,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value),
    Name(String),
    /// A field of a map; `.?` makes it optional.
    Select {
        operand: Box<Node>,
        field: String,
        is_optional: bool,
    },
    /// Whether there is such a field.
    Has {
        operand: Box<Node>,
        field: String,
    },
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        is_optional: bool,
    },
    Call {
        function: &'static Function,
        arguments: Vec<Node>,
    },
    Not(Box<Node>),
    Negative(Box<Node>),
    Binary {
        operator: Operator,
        sides: Box<(Node, Node)>,
    },
    /// All of them; a false one decides, whatever becomes of the others.
    And(Vec<Node>),
    /// One of them; likewise.
    Or(Vec<Node>),
    Condition(Box<(Node, Node, Node)>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Macro(Box<Macro>),
}

#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) value: Node,
    pub(crate) is_optional: bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Node,
    pub(crate) value: Node,
    pub(crate) is_optional: bool,
}

/// What is done with each item.
#[derive(Debug)]
pub(crate) struct Macro {
    pub(crate) what: Each,
    /// The list or map (its keys), or the optional value.
    pub(crate) range: Node,
    /// What an item is called.
    pub(crate) name: String,
    /// Which items count, where that is said besides.
    pub(crate) condition: Option<Node>,
    /// What is asked of an item, or made of it.
    pub(crate) step: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Each {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    SortBy,
    OptMap,
    OptFlatMap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

impl Operator {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Equal => "==",
            Self::Different => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
        }
    }
}

impl Node {
    /// A node, unless it is too deep.
    pub(crate) fn new(at: usize, kind: Kind) -> Result<Self, CelError> {
        let below = kind.children().into_iter().map(|child| child.depth).max().map_or(0, |depth| depth + 1);
        if below > DEPTH_MAX {
            return Err(Problem::TooDeep.at(at));
        }
        Ok(Self { at, depth: below, kind })
    }
}

impl Kind {
    /// What is directly below, but for what a macro does with each item, which knows one name more.
    pub(crate) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Literal(_) | Self::Name(_) => Vec::new(),
            Self::Select { operand, .. } | Self::Has { operand, .. } => vec![operand],
            Self::Not(operand) | Self::Negative(operand) => vec![operand],
            Self::Index { operand, index, .. } => vec![operand, index],
            Self::Call { arguments, .. } | Self::And(arguments) | Self::Or(arguments) => arguments.iter().collect(),
            Self::Binary { sides, .. } => vec![&sides.0, &sides.1],
            Self::Condition(parts) => vec![&parts.0, &parts.1, &parts.2],
            Self::List(elements) => elements.iter().map(|element| &element.value).collect(),
            Self::Map(entries) => entries.iter().flat_map(|entry| [&entry.key, &entry.value]).collect(),
            Self::Macro(each) => {
                let steps = each.condition.iter().chain([&each.step]);
                std::iter::once(&each.range).chain(steps).collect()
            }
        }
    }
}
