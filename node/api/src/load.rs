//! What a node is busy with, as it tells the others of its cluster.

use crate::machine::{Memory, group_limit};
use crate::state::ApiState;

/// The load of the machine and of this process, averaged over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineLoad {
    /// CPU time of all cores in use, percent.
    pub cpu_percent: f64,
    /// Memory of the machine in use, percent.
    pub memory_percent: f64,
    /// Memory of the machine in all, bytes.
    pub memory_total: u64,
    /// Resident memory of this process, bytes.
    pub resident: u64,
    /// What this process may use at most, bytes: the limit of its control group, else the memory of the machine.
    pub memory_limit: u64,
    /// Bytes per second received by all ports.
    pub bytes_in: u64,
    /// Bytes per second sent.
    pub bytes_out: u64,
}

impl ApiState {
    /// What this node is busy with.
    pub fn load(&self) -> MachineLoad {
        let (rates, memory) = (self.sampler.rates(), Memory::read());
        let used = memory.total.saturating_sub(memory.available);
        MachineLoad {
            cpu_percent: rates.system_cpu as f64,
            memory_percent: (used as f64 * 1000.0 / memory.total.max(1) as f64).round() / 10.0,
            memory_total: memory.total,
            resident: memory.resident,
            memory_limit: group_limit().map_or(memory.total, |limit| limit.min(memory.total)),
            bytes_in: rates.bits_in / 8,
            bytes_out: rates.bits_out / 8,
        }
    }
}
