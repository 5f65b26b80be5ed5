"""What the device can do at best: matrix products, copies in its memory and from the host."""

import torch

from benchmarks.gpu_steps.setting import Setting


def measure(setting: Setting) -> dict[str, float]:
    """TFLOP/s of square products by type, GB/s of copies."""
    size = 256 if setting.quick else 8192
    repeats = 2 if setting.quick else 20
    found = {
        "bf16_teraflops": _product(setting, size, torch.bfloat16, repeats),
        "fp32_teraflops": _product(setting, size // 2, torch.float32, repeats // 2),
        "copy_gb_per_second": _copy(setting, repeats),
    }
    for name, pinned in (("pinned", True), ("pageable", False)):
        if setting.on_gpu:
            found[f"from_{name}_host_gb_per_second"] = _from_host(setting, pinned)
    return found


def _product(setting: Setting, size: int, kind: torch.dtype, repeats: int) -> float:
    """Random numbers: zeros would run at a higher clock."""
    left, right = (torch.randn(size, size, device=setting.device).to(kind) for _ in range(2))
    out = torch.empty_like(left)
    seconds = setting.seconds(lambda: torch.mm(left, right, out=out), repeats, warm_up=3)
    return 2 * size**3 / seconds / 1e12


def _copy(setting: Setting, repeats: int) -> float:
    """Bytes read and bytes written."""
    size = 1 << (22 if setting.quick else 31)
    source = torch.zeros(size, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    seconds = setting.seconds(lambda: target.copy_(source), repeats)
    return 2 * source.numel() / seconds / 1e9


def _from_host(setting: Setting, pinned: bool) -> float:
    source = torch.empty(1 << 26, dtype=torch.uint8, pin_memory=pinned)
    seconds = setting.seconds(lambda: source.to(setting.device, non_blocking=True), 5)
    return source.numel() / seconds / 1e9
