// The convolutional network among the bundled models.
#pragma once

#include "demo/trainer.h"
#include "models/cnn/cnn.h"

namespace whence::demo {

// Four layers of one block, 16 to 128 channels wide, 8 classes. A residual network keeps one of 32
// positions along an axis; scenes are shown to it at twice their size, 192 x 192, so that its last
// feature map has 6 x 6 places.
ResNetConfig demo_resnet_config();
// Random kernels, unit norms whose statistics are those of 64 scenes.
Weights initial_weights(const ResNetConfig& config, const TrainOptions& options);
// The statistics of norms are constants. A patch's scores are those of its place of the last
// feature map, whose mean the head reads: the image's scores are the mean of all patches' scores.
Subject resnet_subject(const ResNetConfig& config, const TrainOptions& options);

}  // namespace whence::demo
