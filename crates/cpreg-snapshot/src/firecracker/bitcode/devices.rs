//! Layout of the devices.

use serde::{Deserialize, Serialize};

/// State of all devices.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Devices {
    mmio: MmioDevices,
    acpi: Acpi,
    pci: PciDevices,
    serial: Option<Serial>,
}

#[derive(Debug, Deserialize, Serialize)]
struct MmioDevices {
    legacy: Vec<LegacyDevice>,
    blocks: Vec<MmioDevice<Block>>,
    nets: Vec<MmioDevice<Net>>,
    vsock: Option<MmioDevice<Vsock>>,
    balloon: Option<MmioDevice<Balloon>>,
    mmds: Option<Mmds>,
    entropy: Option<MmioDevice<Entropy>>,
    pmems: Vec<MmioDevice<Pmem>>,
    memory: Option<MmioDevice<MemoryDevice>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct PciDevices {
    is_enabled: bool,
    blocks: Vec<PciDevice<Block>>,
    nets: Vec<PciDevice<Net>>,
    vsock: Option<PciDevice<Vsock>>,
    balloon: Option<PciDevice<Balloon>>,
    mmds: Option<Mmds>,
    entropy: Option<PciDevice<Entropy>>,
    pmems: Vec<PciDevice<Pmem>>,
    memory: Option<PciDevice<MemoryDevice>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct LegacyDevice {
    kind: DeviceKind,
    resources: MmioResources,
}

#[derive(Debug, Deserialize, Serialize)]
enum DeviceKind {
    Virtio(u32),
    Serial,
    Rtc,
    BootTimer,
}

#[derive(Debug, Deserialize, Serialize)]
struct MmioResources {
    address: u64,
    length: u64,
    interrupt: Option<u32>,
}

#[derive(Debug, Deserialize, Serialize)]
struct MmioDevice<State> {
    id: String,
    state: State,
    transport: MmioTransport,
    resources: MmioResources,
}

#[derive(Debug, Deserialize, Serialize)]
struct MmioTransport {
    features_select: u32,
    acked_features_select: u32,
    queue_select: u32,
    device_status: u32,
    config_generation: u32,
    interrupt_status: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct PciDevice<State> {
    id: String,
    address: u32,
    state: State,
    transport: PciTransport,
}

#[derive(Debug, Deserialize, Serialize)]
struct PciTransport {
    address: u32,
    is_activated: bool,
    config_capability_offset: u16,
    config_capability: Vec<u8>,
    configuration: PciConfiguration,
    common: PciCommonConfig,
    msix: Msix,
    bars: PciBars,
    msix_capability_offset: u16,
}

#[derive(Debug, Deserialize, Serialize)]
struct PciConfiguration {
    registers: Vec<u32>,
    writable_bits: Vec<u32>,
    last_capability: Option<(u8, u8)>,
}

#[derive(Debug, Deserialize, Serialize)]
struct PciCommonConfig {
    driver_status: u8,
    config_generation: u8,
    device_feature_select: u32,
    driver_feature_select: u32,
    queue_select: u16,
    msix_config: u16,
    msix_queues: Vec<u16>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Msix {
    table: Vec<MsixEntry>,
    pending: Vec<u64>,
    is_masked: bool,
    is_enabled: bool,
    vectors: Vec<u32>,
}

#[derive(Debug, Deserialize, Serialize)]
struct MsixEntry {
    address_low: u32,
    address_high: u32,
    data: u32,
    control: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct PciBars {
    bars: [PciBar; 6],
}

#[derive(Debug, Deserialize, Serialize)]
struct PciBar {
    address: u32,
    size: u32,
    is_size_requested: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Acpi {
    generation_id: GenerationId,
    clock: Clock,
}

#[derive(Debug, Deserialize, Serialize)]
struct GenerationId {
    interrupt: u32,
    address: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Clock {
    address: u64,
    interrupt: u32,
    page: ClockPage,
}

/// Page of the VMClock device.
#[derive(Debug, Deserialize, Serialize)]
struct ClockPage {
    magic: u32,
    size: u32,
    version: u16,
    counter_id: u8,
    time_type: u8,
    sequence: u32,
    disruption_marker: u64,
    flags: u64,
    padding: [u8; 2],
    status: u8,
    leap_second_smearing: u8,
    tai_offset: u16,
    leap_indicator: u8,
    counter_period_shift: u8,
    counter: u64,
    counter_period: [u64; 3],
    time: [u64; 4],
    generation: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Serial {
    registers: [u8; 9],
    input: Vec<u8>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Mmds {
    version: MmdsVersion,
    is_imds_compatible: bool,
}

#[derive(Debug, Deserialize, Serialize)]
enum MmdsVersion {
    V1,
    V2,
}

/// State that all virtio devices share.
#[derive(Debug, Deserialize, Serialize)]
struct Virtio {
    kind: VirtioKind,
    available_features: u64,
    acked_features: u64,
    queues: Vec<Queue>,
    is_activated: bool,
}

#[derive(Debug, Deserialize, Serialize)]
enum VirtioKind {
    Net,
    Block,
    Entropy,
    Balloon,
    Vsock,
    Memory,
    Pmem,
}

#[derive(Debug, Deserialize, Serialize)]
struct Queue {
    max_size: u16,
    size: u16,
    is_ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
    next_available: u16,
    next_used: u16,
    added: u16,
}

#[derive(Debug, Deserialize, Serialize)]
struct RateLimiter {
    operations: Option<TokenBucket>,
    bandwidth: Option<TokenBucket>,
}

#[derive(Debug, Deserialize, Serialize)]
struct TokenBucket {
    size: u64,
    one_time_burst: u64,
    refill_time: u64,
    budget: u64,
    elapsed: u64,
}

#[derive(Debug, Deserialize, Serialize)]
enum Block {
    Virtio(VirtioBlock),
    VhostUser(VhostUserBlock),
}

#[derive(Debug, Deserialize, Serialize)]
struct VirtioBlock {
    id: String,
    partition: Option<String>,
    cache: Cache,
    is_root: bool,
    path: String,
    virtio: Virtio,
    rate_limiter: RateLimiter,
    engine: FileEngine,
}

#[derive(Debug, Deserialize, Serialize)]
struct VhostUserBlock {
    id: String,
    partition: Option<String>,
    cache: Cache,
    is_root: bool,
    socket: String,
    acked_protocol_features: u64,
    config_space: Vec<u8>,
    virtio: Virtio,
}

#[derive(Debug, Deserialize, Serialize)]
enum Cache {
    Unsafe,
    Writeback,
}

#[derive(Debug, Deserialize, Serialize)]
enum FileEngine {
    Sync,
    Async,
}

#[derive(Debug, Deserialize, Serialize)]
struct Net {
    id: String,
    tap: String,
    receive_limiter: RateLimiter,
    transmit_limiter: RateLimiter,
    mmds: Option<MmdsStack>,
    config_space: NetConfig,
    virtio: Virtio,
}

#[derive(Debug, Deserialize, Serialize)]
struct MmdsStack {
    mac: [u8; 6],
    address: u32,
    port: u16,
}

#[derive(Debug, Deserialize, Serialize)]
struct NetConfig {
    mac: Option<String>,
    mtu: Option<u16>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Vsock {
    backend: VsockBackend,
    frontend: VsockFrontend,
}

#[derive(Debug, Deserialize, Serialize)]
struct VsockBackend {
    socket: String,
    last_port: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct VsockFrontend {
    cid: u64,
    virtio: Virtio,
}

#[derive(Debug, Deserialize, Serialize)]
struct Balloon {
    statistics_interval: u16,
    statistics_index: Option<u16>,
    statistics: [Option<u64>; 16],
    config_space: BalloonConfig,
    hinting: Hinting,
    virtio: Virtio,
}

#[derive(Debug, Deserialize, Serialize)]
struct BalloonConfig {
    pages: u32,
    actual_pages: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct Hinting {
    host_command: u32,
    last_command: u32,
    guest_command: Option<u32>,
    acknowledges_on_finish: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Entropy {
    virtio: Virtio,
    rate_limiter: RateLimiter,
}

#[derive(Debug, Deserialize, Serialize)]
struct Pmem {
    virtio: Virtio,
    start: (u64, u64),
    config: PmemConfig,
    rate_limiter: RateLimiter,
}

#[derive(Debug, Deserialize, Serialize)]
struct PmemConfig {
    id: String,
    path: String,
    is_root: bool,
    is_read_only: bool,
    rate_limiter: Option<RateLimiterConfig>,
}

#[derive(Debug, Deserialize, Serialize)]
struct RateLimiterConfig {
    bandwidth: Option<TokenBucketConfig>,
    operations: Option<TokenBucketConfig>,
}

#[derive(Debug, Deserialize, Serialize)]
struct TokenBucketConfig {
    size: u64,
    one_time_burst: Option<u64>,
    refill_time: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct MemoryDevice {
    virtio: Virtio,
    address: u64,
    region_size: u64,
    block_size: u64,
    usable_region_size: u64,
    requested_size: u64,
    slot_size: u64,
    plugged_blocks: Vec<bool>,
}
