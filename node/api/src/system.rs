//! `GET /rest/v2/system-resources`: AMS's shape, and the traffic that it does not have.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::json as value;
use sluice_media::session::Protocol;

use crate::machine::{self, CpuTimes, Disk, Memory};
use crate::state::{ApiState, millis};
use crate::{apps, reply::json};

pub(crate) async fn resources(State(state): State<Arc<ApiState>>) -> Response {
    let (memory, disk) = (Memory::read(), Disk::of(&state.settings.data_dir));
    let (rates, traffic) = (state.sampler.rates(), state.node.traffic());
    let streams: Vec<_> = state.hub.streams().into_iter().filter(|s| !s.is_ended()).collect();
    let connections = state.node.connections();
    let publishers = connections.iter().find(|(name, _)| *name == "webrtc_publishers").map_or(0, |(_, n)| *n);
    let viewers = |by: Protocol| streams.iter().map(|s| s.stats().viewers(by)).sum::<u64>();
    // Ticks are hundredths of a second, AMS's unit is the microsecond.
    let cpu_time = CpuTimes::read().process * 10_000;
    let in_use = memory.total.saturating_sub(memory.available);
    let (started, started_at) = state.started;
    json(
        StatusCode::OK,
        &value!({
            "instanceId": state.settings.node_id,
            "cpuUsage": {
                "processCPUTime": cpu_time,
                "systemCPULoad": rates.system_cpu,
                "processCPULoad": rates.process_cpu,
                "systemLoadAverageLastMinute": machine::load_average(),
            },
            // There is no JVM: the process's own memory, which may grow as far as the machine has some.
            "jvmMemoryUsage": {
                "maxMemory": memory.total,
                "totalMemory": memory.resident,
                "freeMemory": memory.available,
                "inUseMemory": memory.resident,
            },
            "jvmNativeMemoryUsage": { "inUseMemory": memory.resident, "maxMemory": memory.total },
            "systemInfo": {
                "osName": format!("Linux {}", machine::kernel()),
                "osArch": std::env::consts::ARCH,
                "javaVersion": "",
                "processorCount": machine::processors(),
            },
            "systemMemoryInfo": {
                "virtualMemory": memory.virtual_size,
                "totalMemory": memory.total,
                "freeMemory": memory.free,
                "inUseMemory": in_use,
                "totalSwapSpace": memory.swap_total,
                "freeSwapSpace": memory.swap_free,
                "inUseSwapSpace": memory.swap_total.saturating_sub(memory.swap_free),
                "availableMemory": memory.available,
            },
            "fileSystemInfo": {
                "usableSpace": disk.usable,
                "totalSpace": disk.total,
                "freeSpace": disk.free,
                "inUseSpace": disk.total.saturating_sub(disk.free),
            },
            "softwareVersion": apps::version_of(&state),
            "gpuUsageInfo": [],
            "ffmpegBuildInfo": "",
            "dbAverageQueryTimeMs": state.store.timings().snapshot().mean_millis().round() as u64,
            "totalLiveStreamSize": state.live_everywhere().len(),
            "localLiveStreams": streams.iter().filter(|s| !s.is_relayed()).count(),
            "localWebRTCLiveStreams": publishers,
            "localWebRTCViewers": viewers(Protocol::WebRtc),
            "localHLSViewers": viewers(Protocol::Hls),
            "localDASHViewers": 0,
            "localRTMPViewers": viewers(Protocol::Rtmp),
            "encoders-blocked": 0,
            "encoders-not-opened": 0,
            "publish-timeout-errors": 0,
            "vertx-worker-thread-queue-size": 0,
            "webrtc-vertx-worker-thread-queue-size": 0,
            "server-timing": {
                "up-time": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                "start-time": millis(started_at),
            },
            "host-address": state.host,
            // Ours: where the dashboard tells people to publish.
            "rtmp-port": state.settings.rtmp_port,
            "time": millis(SystemTime::now()),
            "traffic": {
                "bytesIn": traffic.bytes_in,
                "bytesOut": traffic.bytes_out,
                "bitsInPerSecond": rates.bits_in,
                "bitsOutPerSecond": rates.bits_out,
            },
        }),
    )
}
