"""Training step in plain PyTorch with Hugging Face's HTS-AT and CLIP text transformer."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    ClapAudioConfig,
    ClapAudioModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
)

from edge.inference.frontend import FrontEnd
from training.bench.workload import Workload


class TorchStep:
    """Hugging Face's models, their optimiser and batch.

    Args:
        workload: sizes and data.
        compiled: whether to use `torch.compile` in its default mode.

    Raises:
        ValueError: if Hugging Face's model does not support these sizes.
    """

    def __init__(self, workload: Workload, compiled: bool) -> None:
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.autocast = workload.precision == "mixed_bfloat16"
        module = ClapAndClip(workload).to(self.device).train()
        self.num_parameters = sum(parameter.numel() for parameter in module.parameters())
        self.log_mel = LogMel(FrontEnd.from_json(workload.front_end)).to(self.device)
        # Exclude the front end: `torch.compile` warns that it does not optimise complex numbers.
        self.module = torch.compile(module, dynamic=False) if compiled else module
        self.optimizer = torch.optim.SGD(
            module.parameters(), 8e-5, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        self.token_ids = torch.from_numpy(workload.token_ids()).to(self.device)
        batch = [torch.from_numpy(x) for x in (workload.waveforms(), workload.labels())]
        self.batch = [x.pin_memory() if self.device == "cuda" else x for x in batch]
        self.counts_flops = not compiled

    def run(self, steps: int) -> tuple[float, float]:
        """Run steps; return the seconds and the loss of the last step."""
        started = time.perf_counter()
        for _ in range(steps):
            waveforms, labels = (x.to(self.device, non_blocking=True) for x in self.batch)
            self.optimizer.zero_grad()
            with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast):
                loss = self.module(self.log_mel(waveforms), labels, self.token_ids)
            loss.backward()
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started, loss.item()

    def multiply(self, size: int, products: int) -> float:
        """Seconds for a number of products of square matrices at the precision of the step."""
        dtype = torch.bfloat16 if self.autocast else torch.float32
        x, matrix = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
        matrix *= size**-0.5  # x keeps its magnitude
        x = x @ matrix
        x[0, 0].item()  # waits
        started = time.perf_counter()
        for _ in range(products):
            x = x @ matrix
        x[0, 0].item()
        return time.perf_counter() - started


class ClapAndClip(nn.Module):
    """Symmetric contrastive loss of log-mels and label texts, in our sizes.

    Args:
        workload: sizes.

    Call arguments:
        log_mels: (B, T, mels).
        labels: (B,).
        token_ids: (K, L), tokens of each label text.

    Raises:
        ValueError: if Hugging Face's model does not support these sizes.
    """

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        audio, text, cscm = workload.audio_encoder, workload.text_encoder, workload.cscm
        self.audio = ClapAudioModel(clap_config(audio))
        dim = self.audio.config.hidden_size
        self.head = CSCM(dim, cscm["hidden_dim"] or dim // 2, cscm["output_dim"], cscm["reduction"])
        self.text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=text["vocabulary_size"],
                bos_token_id=text["vocabulary_size"] - 2,
                eos_token_id=text["vocabulary_size"] - 1,
                max_position_embeddings=text["context_length"],
                hidden_size=text["width"],
                intermediate_size=4 * text["width"],
                num_hidden_layers=text["num_layers"],
                num_attention_heads=text["num_heads"],
                projection_dim=text["output_dim"],
            )
        )
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, log_mels: Tensor, labels: Tensor, token_ids: Tensor) -> Tensor:
        # (B, C, bands, columns)
        tokens = self.audio(input_features=log_mels[:, None]).last_hidden_state
        audio = functional.normalize(self.head(tokens).float(), dim=-1)
        text = functional.normalize(self.text(input_ids=token_ids).text_embeds.float(), dim=-1)
        # Autocast would compute this product in bfloat16; our model uses float32.
        with torch.autocast(log_mels.device.type, enabled=False):
            logits = self.logit_scale.exp() * audio @ text[labels].T  # (B, B)
        clips = torch.arange(len(labels), device=logits.device)
        rows = functional.cross_entropy(logits, clips)
        return 0.5 * (rows + functional.cross_entropy(logits.T, clips))


def clap_config(audio_encoder: dict[str, Any]) -> ClapAudioConfig:
    """Configuration of Hugging Face's HTS-AT in our sizes.

    Args:
        audio_encoder: all arguments of `HTSATEncoder`.

    Raises:
        ValueError: if Hugging Face's model does not support these sizes.
    """
    audio = audio_encoder
    rows = audio["num_chunks"] * audio["num_mels"]
    if rows != audio["chunk_frames"] or audio["stem_channels"]:
        raise ValueError(
            "Hugging Face's HTS-AT needs square images and no stem. Received: "
            f"{rows} rows of {audio['chunk_frames']} frames, stem {audio['stem_channels']}"
        )
    return ClapAudioConfig(
        spec_size=audio["chunk_frames"],
        num_mel_bins=audio["num_mels"],
        patch_size=audio["patch_size"],
        patch_stride=[audio["patch_size"]] * 2,
        patch_embeds_hidden_size=audio["embed_dim"],
        hidden_size=audio["embed_dim"] * 2 ** (len(audio["depths"]) - 1),
        depths=audio["depths"],
        num_attention_heads=audio["num_heads"],
        window_size=audio["window_size"],
        mlp_ratio=audio["mlp_ratio"],
        drop_path_rate=audio["drop_path"],
        hidden_dropout_prob=audio["dropout"],
        attention_probs_dropout_prob=audio["dropout"],
    )


class LogMel(nn.Module):
    """Log-mel front end: waveforms (B, samples) to log-mels (B, T, mels), float32."""

    window: Tensor
    mel_matrix: Tensor

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end
        self.register_buffer("window", torch.tensor(front_end.window()))
        self.register_buffer("mel_matrix", torch.tensor(front_end.mel_matrix()))

    def forward(self, waveforms: Tensor) -> Tensor:
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(
                waveforms,
                self.front_end.n_fft,
                self.front_end.hop_length,
                window=self.window,
                pad_mode="reflect",
                return_complex=True,
            )
            power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)
            return 10.0 * (power @ self.mel_matrix).clamp(min=self.front_end.amin).log10()


class CSCM(nn.Module):
    """Channel and spatial attention, then convolutions: (B, C, rows, columns) to (B, output)."""

    def __init__(self, dim: int, hidden_dim: int, output_dim: int, reduction: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Linear(dim, max(1, dim // reduction)),
            nn.ReLU(),
            nn.Linear(max(1, dim // reduction), dim),
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.conv3 = nn.Conv2d(dim, hidden_dim, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(hidden_dim)
        self.conv1 = nn.Conv2d(hidden_dim, output_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))
        x = x * weights.sigmoid()[:, :, None, None]
        pooled = torch.stack([x.mean(1), x.amax(1)], dim=1)
        x = x * self.spatial(pooled).sigmoid()
        x = functional.gelu(self.norm(self.conv3(x))).mean((2, 3), keepdim=True)
        return self.conv1(x).flatten(1)
