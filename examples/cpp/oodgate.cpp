// Classify an image or reject it, with ONNX Runtime alone: no Python, and no code of this project.
//
//     oodgate pipeline.onnx image.ppm [threshold [selection_threshold]]
//     oodgate model.onnx images.rgb [threshold [selection_threshold]]
//
// pipeline.onnx takes an image of any size, PPM or PNG, and resizes it as the bundle's manifest says, so that the scores are
// Python's. model.onnx is for who has the pixels at the model's size: images.rgb holds one or more images as raw bytes, red,
// green and blue of each pixel, row by row, resized by the rule of docs/images.md and no other, as scores depend on it.
// Normalisation, scores and decision are in the graph. The graph's own thresholds decide, unless others are given: that of
// the gate, and of a bundle that bounds the error of accepted images the second one, `selection.threshold` in the manifest. An
// operating point is both of them. Of a class-conditional gate it is a threshold for each class, and none is taken.
//
// One line an image: the decision, the class, every score.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <onnxruntime_cxx_api.h>

#include "image.h"

namespace {

float to_threshold(const std::string& text) {
    std::size_t used = 0;
    const float value = std::stof(text, &used);
    if (used != text.size()) throw std::invalid_argument(text);
    return value;
}

// The pixels of one input tensor, and its shape.
struct Input {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<std::uint8_t> pixels;
};

// What the graph takes: `image` [H, W, 3] of any size, or `images` [N, H, W, 3] of the model's.
Input read_input(const Ort::Session& session, const std::string& path) {
    Ort::AllocatorWithDefaultOptions allocator;
    const std::string name = session.GetInputNameAllocated(0, allocator).get();
    std::vector<std::int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    if (name == "image") {
        const auto manifest = session.GetModelMetadata().LookupCustomMetadataMapAllocated("oodgate", allocator);
        Image image = read_image(path, manifest && std::strstr(manifest.get(), R"("colour": "srgb")"));
        return {name, {image.height, image.width, 3}, std::move(image.pixels)};
    }
    const auto size = static_cast<std::size_t>(shape[1] * shape[2] * shape[3]);
    std::vector<std::uint8_t> pixels = read_file(path);
    if (pixels.empty() || pixels.size() % size) {
        throw std::runtime_error(path + ": expected " + std::to_string(size) + " bytes an image, found " +
                                 std::to_string(pixels.size()) + " bytes");
    }
    shape[0] = static_cast<std::int64_t>(pixels.size() / size);
    return {name, std::move(shape), std::move(pixels)};
}

// Products of 8 bits are added in 32 and not, on a CPU without VNNI, in 16 that saturate, but for the few operators that ONNX
// Runtime has no such kernel for: as the runtime does.
Ort::Session load(const Ort::Env& env, const std::string& model) {
    Ort::SessionOptions options;
    options.SetLogSeverityLevel(3);
    options.AddConfigEntry("session.x64quantprecision", "1");
    try {
        return Ort::Session(env, model.c_str(), options);
    } catch (const Ort::Exception&) {
        options.AddConfigEntry("session.x64quantprecision", "0");
        return Ort::Session(env, model.c_str(), options);
    }
}

// thresholds: none, the gate's, or the gate's and the selection's.
void classify(const std::string& model, const std::string& images, std::vector<float> thresholds) {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "oodgate");
    Ort::Session session = load(env, model);
    const std::vector<std::string> defaults = session.GetOverridableInitializerNames();
    if (!thresholds.empty() && std::count(defaults.begin(), defaults.end(), "class_thresholds")) {
        throw std::runtime_error(model + ": each class has a threshold of its own, which a single one would replace");
    }
    Input input = read_input(session, images);

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<const char*> names{input.name.c_str()};
    std::vector<Ort::Value> inputs;
    inputs.push_back(
        Ort::Value::CreateTensor<std::uint8_t>(memory, input.pixels.data(), input.pixels.size(), input.shape.data(),
                                               input.shape.size()));
    const char* const overridable[] = {"threshold", "selection_threshold"};
    for (std::size_t i = 0; i < thresholds.size(); ++i) {  // a scalar: no dimensions
        names.push_back(overridable[i]);
        inputs.push_back(Ort::Value::CreateTensor<float>(memory, &thresholds[i], 1, nullptr, 0));
    }

    // A model without classes (task unlabelled) has no logits: a dash stands for the class.
    const std::vector<std::string> made = session.GetOutputNames();
    const bool labelled = std::find(made.begin(), made.end(), "logits") != made.end();
    std::vector<const char*> wanted{"scores", "accept"};
    if (labelled) wanted.push_back("logits");
    const auto outputs =
        session.Run(Ort::RunOptions{nullptr}, names.data(), inputs.data(), inputs.size(), wanted.data(), wanted.size());
    const float* scores = outputs[0].GetTensorData<float>();                        // [N, S]
    const bool* accept = outputs[1].GetTensorData<bool>();                          // [N]
    const float* logits = labelled ? outputs[2].GetTensorData<float>() : nullptr;  // [N, K]
    const auto count = outputs[0].GetTensorTypeAndShapeInfo().GetShape()[0];
    const auto classes = labelled ? outputs[2].GetTensorTypeAndShapeInfo().GetShape()[1] : 0;
    const auto columns = outputs[0].GetTensorTypeAndShapeInfo().GetShape()[1];
    for (std::int64_t i = 0; i < count; ++i) {
        const float* first = logits + i * classes;
        const std::string label = labelled ? std::to_string(std::max_element(first, first + classes) - first) : "-";
        std::printf("%s %s", accept[i] ? "accept" : "reject", label.c_str());
        for (std::int64_t s = 0; s < columns; ++s) std::printf(" %.9g", scores[i * columns + s]);
        std::printf("\n");
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3 || argc > 5) {
        std::fprintf(stderr, "usage: oodgate pipeline.onnx image.ppm|model.onnx images.rgb [threshold [selection_threshold]]\n");
        return 2;
    }
    std::vector<float> thresholds;
    try {
        for (int i = 3; i < argc; ++i) {
            try {
                thresholds.push_back(to_threshold(argv[i]));
            } catch (const std::logic_error&) {
                throw std::runtime_error("the threshold must be a number, found " + std::string(argv[i]));
            }
        }
        classify(argv[1], argv[2], thresholds);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
