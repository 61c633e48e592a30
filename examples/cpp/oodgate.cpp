// Classify an image or reject it, with ONNX Runtime alone: no Python, and no code of this project.
//
//     oodgate model.onnx images.rgb [threshold [selection_threshold]]
//
// images.rgb holds one or more images as raw bytes, red, green and blue of each pixel, row by row, at the model's size:
// `magick photo.jpg -resize 32x32^ -gravity center -extent 32x32 -depth 8 images.rgb`, where the manifest says `center`; of a
// model that says `shortest` and `resize_to` 256, `-resize 256x256^ -gravity center -extent 224x224`. ImageMagick's filter is not
// Pillow's: docs/images.md has the rule to the pixel. Normalisation, scores and decision are in the graph. The graph's own
// thresholds decide, unless others are given: that of the gate, and of a bundle that bounds the error of accepted images the
// second one, `selection.threshold` in the manifest. An operating point is both of them.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

namespace {

std::vector<std::uint8_t> read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": can't be read");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

float to_threshold(const std::string& text) {
    std::size_t used = 0;
    const float value = std::stof(text, &used);
    if (used != text.size()) throw std::invalid_argument(text);
    return value;
}

// thresholds: none, the gate's, or the gate's and the selection's.
void classify(const std::string& model, const std::string& images, std::vector<float> thresholds) {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "oodgate");
    Ort::SessionOptions options;
    options.SetLogSeverityLevel(3);
    Ort::Session session(env, model.c_str(), options);

    // images: uint8 [N, H, W, 3]
    std::vector<std::int64_t> shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    const auto size = static_cast<std::size_t>(shape[1] * shape[2] * shape[3]);
    std::vector<std::uint8_t> pixels = read(images);
    if (pixels.empty() || pixels.size() % size) {
        throw std::runtime_error(images + ": expected " + std::to_string(size) + " bytes an image, found " +
                                 std::to_string(pixels.size()) + " bytes");
    }
    const std::size_t count = pixels.size() / size;
    shape[0] = static_cast<std::int64_t>(count);

    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<const char*> names{"images"};
    std::vector<Ort::Value> inputs;
    inputs.push_back(
        Ort::Value::CreateTensor<std::uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size()));
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
    const auto classes = labelled ? outputs[2].GetTensorTypeAndShapeInfo().GetShape()[1] : 0;
    const auto columns = outputs[0].GetTensorTypeAndShapeInfo().GetShape()[1];
    for (std::size_t i = 0; i < count; ++i) {
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
        std::fprintf(stderr, "usage: oodgate model.onnx images.rgb [threshold [selection_threshold]]\n");
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
