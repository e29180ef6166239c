// DeviceInfo.cs - a device that models can run on.
using Dsopt.Raw;

namespace Dsopt
{
    /// <summary>What a device is.</summary>
    public enum DeviceKind
    {
        /// <summary>The processor of this computer.</summary>
        Cpu = dsopt_device_kind.DSOPT_DEVICE_CPU,
        /// <summary>An NVIDIA GPU.</summary>
        Cuda = dsopt_device_kind.DSOPT_DEVICE_CUDA,
    }

    /// <summary>A device that models can run on: see <see cref="Runtime.Devices"/>.</summary>
    public sealed class DeviceInfo
    {
        internal DeviceInfo(dsopt_device_info raw)
        {
            Kind = (DeviceKind)raw.kind;
            Id = Utf8.Read(raw.id);
            Name = Utf8.Read(raw.name);
            Architecture = (int)raw.arch;
            Multiprocessors = (int)raw.multiprocessors;
            MemoryTotal = (long)raw.memory_total;
            MemoryFree = (long)raw.memory_free;
            PreferredRows = (int)raw.preferred_rows;
        }

        /// <summary>What it is.</summary>
        public DeviceKind Kind { get; private set; }

        /// <summary>"cpu", "cuda:0": the name that <see cref="ModelOptions.Device"/> takes.</summary>
        public string Id { get; private set; }

        /// <summary>What its maker calls it.</summary>
        public string Name { get; private set; }

        /// <summary>CUDA: 90 for sm_90. CPU: 0 scalar, 1 avx2, 2 avx512, 3 avx512_bf16, 4 avx2_vnni, 5 avx512_vnni.</summary>
        public int Architecture { get; private set; }

        /// <summary>CUDA: streaming multiprocessors. CPU: cores.</summary>
        public int Multiprocessors { get; private set; }

        /// <summary>Bytes of memory.</summary>
        public long MemoryTotal { get; private set; }

        /// <summary>Bytes of memory that were free when this was asked for.</summary>
        public long MemoryFree { get; private set; }

        /// <summary>Batch rows from which prompts gain little.</summary>
        public int PreferredRows { get; private set; }
    }
}
