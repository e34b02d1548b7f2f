// Families that are known by name only: a checkpoint of one is refused with what it is.
#include "models/family.h"

namespace whence {

Family clip_family() {
  return {.signatures = {
              {.pattern = "visual.transformer.resblocks.{i}.attn.in_proj_weight",
               .refused = "a CLIP model (OpenAI, open_clip)"},
              {.pattern = "visual.attnpool.k_proj.weight",
               .refused = "a CLIP model with a convolutional tower"},
              {.pattern = "vision_model.encoder.layers.{i}.self_attn.q_proj.weight",
               .refused = "a CLIP model (Hugging Face)"},
          }};
}

Family language_families() {
  return {.signatures = {
              {.pattern = "roberta.{rest}", .refused = "a RoBERTa model"},
              {.pattern = "distilbert.{rest}", .refused = "a DistilBERT model"},
              {.pattern = "bert.{rest}", .refused = "a BERT model"},
              {.pattern = "ernie.{rest}", .refused = "an ERNIE model"},
              {.pattern = "electra.{rest}", .refused = "an ELECTRA model"},
              {.pattern = "embeddings.word_embeddings.weight",
               .refused = "a BERT model without a classifier"},
          }};
}

Family other_families() {
  return {.signatures = {
              {.pattern = "layers.{i}.blocks.0.attn.qkv.weight", .refused = "a Swin transformer"},
              {.pattern = "swin.{rest}", .refused = "a Swin transformer"},
              {.pattern = "beit.{rest}", .refused = "a BEiT model"},
              {.pattern = "dinov2.{rest}", .refused = "a DINOv2 model (Hugging Face)"},
              {.pattern = "convnext.{rest}", .refused = "a ConvNeXt model"},
          }};
}

}  // namespace whence
