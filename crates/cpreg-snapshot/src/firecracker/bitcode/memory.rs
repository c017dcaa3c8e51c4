//! Layout of memory regions and of allocators of addresses and interrupts.

use serde::{Deserialize, Serialize};

/// Regions of guest memory.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Memory {
    regions: Vec<MemoryRegion>,
}

#[derive(Debug, Deserialize, Serialize)]
struct MemoryRegion {
    base_address: u64,
    size: u64,
    kind: RegionKind,
    plugged: Vec<bool>,
}

#[derive(Debug, Deserialize, Serialize)]
enum RegionKind {
    Dram,
    Hotpluggable,
}

/// Allocators of interrupts and addresses.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Allocators {
    legacy_interrupts: IdAllocator,
    msi_interrupts: IdAllocator,
    mmio32: AddressAllocator,
    mmio64: AddressAllocator,
    past_mmio64: AddressAllocator,
    system: AddressAllocator,
}

#[derive(Debug, Deserialize, Serialize)]
struct IdAllocator {
    range_base: u32,
    next_id: Option<u32>,
    range_end: u32,
    freed_ids: Vec<u32>,
}

#[derive(Debug, Deserialize, Serialize)]
struct AddressAllocator {
    space: AddressRange,
    tree: IntervalTree,
}

#[derive(Debug, Deserialize, Serialize)]
struct AddressRange {
    start: u64,
    end: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct IntervalTree {
    root: Option<Box<Root>>,
}

#[derive(Debug, Deserialize, Serialize)]
enum NodeState {
    Free,
    Allocated,
}

/// Node of a balanced tree, whose children are of type `Child`.
///
/// Firecracker's type contains itself. A hostile file could nest such a type until the stack
/// overflows, so this type has a limit.
#[derive(Debug, Deserialize, Serialize)]
struct Node<Child> {
    key: AddressRange,
    state: NodeState,
    left: Option<Box<Child>>,
    right: Option<Box<Child>>,
    height: u64,
}

type FourLevels<Child> = Node<Node<Node<Node<Child>>>>;
/// Tree of at most 16 levels. A balanced tree of 16 levels has at least 2583 nodes.
type Root = FourLevels<FourLevels<FourLevels<FourLevels<TooDeep>>>>;

/// Type without values.
#[derive(Debug, Deserialize, Serialize)]
enum TooDeep {}
