#include "image.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <stdexcept>

#ifdef WITH_PNG
#include <csetjmp>
#include <cstdio>
#include <memory>

#include <png.h>
#endif

namespace {

constexpr std::size_t kLargest = 1u << 16;  // pixels of a side

// A number of a PPM's header, and the one character behind it; comments run to the end of their line.
std::size_t number(const std::vector<std::uint8_t>& data, std::size_t& at, const std::string& path) {
    while (at < data.size() && (std::isspace(data[at]) || data[at] == '#')) {
        if (data[at] == '#') at = std::find(data.begin() + at, data.end(), '\n') - data.begin();
        if (at < data.size()) ++at;
    }
    std::size_t value = 0;
    const std::size_t start = at;
    for (; at < data.size() && std::isdigit(data[at]) && value <= kLargest; ++at) value = value * 10 + (data[at] - '0');
    if (at == start || at == data.size() || value == 0 || value > kLargest) {
        throw std::runtime_error(path + ": the header of this PPM is damaged");
    }
    ++at;
    return value;
}

Image read_ppm(const std::vector<std::uint8_t>& data, const std::string& path) {
    std::size_t at = 2;
    const std::size_t width = number(data, at, path), height = number(data, at, path), most = number(data, at, path);
    if (most != 255) throw std::runtime_error(path + ": expected 8 bits a sample, found a largest of " + std::to_string(most));
    Image image(height, width);
    if (data.size() - at != image.pixels.size()) {
        throw std::runtime_error(path + ": expected " + std::to_string(image.pixels.size()) + " bytes of pixels, found " +
                                 std::to_string(data.size() - at));
    }
    std::copy(data.begin() + at, data.end(), image.pixels.begin());
    return image;
}

#ifdef WITH_PNG

// One sample over white, as Pillow rounds it.
std::uint8_t over_white(unsigned sample, unsigned alpha) {
    const unsigned sum = sample * alpha + 255 * (255 - alpha) + 128;
    return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8);
}

Image flattened(png_structp png, png_infop info) {
    const std::size_t height = png_get_image_height(png, info), width = png_get_image_width(png, info);
    const std::size_t channels = png_get_channels(png, info);
    png_bytepp rows = png_get_rows(png, info);
    Image image(height, width);
    for (std::size_t y = 0; y < height; ++y) {
        for (std::size_t x = 0; x < width; ++x) {
            const png_bytep pixel = rows[y] + x * channels;
            const unsigned alpha = channels == 4 ? pixel[3] : 255;
            for (std::size_t c = 0; c < 3; ++c) image.pixels[(y * width + x) * 3 + c] = over_white(pixel[c], alpha);
        }
    }
    return image;
}

// The orientation in the first directory of EXIF data, 0 if there is none. What is behind their end reads as zeros.
std::size_t orientation(png_const_bytep exif, std::size_t size) {
    const auto number = [&](std::size_t at, std::size_t bytes) {
        std::size_t value = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            const std::size_t place = at + (exif[0] == 'I' ? bytes - 1 - i : i);
            value = value << 8 | (place < size ? exif[place] : 0);
        }
        return value;
    };
    const std::size_t directory = number(4, 4), entries = number(directory, 2);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t entry = directory + 2 + 12 * i;
        if (number(entry, 2) == 0x0112) return number(entry + 8, 2);
    }
    return 0;
}

void check(png_structp png, png_infop info, const std::string& path, bool srgb) {
    png_uint_32 size = 0;
    png_bytep exif = nullptr;
    const std::size_t turned = png_get_eXIf_1(png, info, &size, &exif) ? orientation(exif, size) : 0;
    if (turned > 1 && turned < 9) throw std::runtime_error(path + ": its EXIF says that it is turned; save it upright");
    if (srgb && png_get_valid(png, info, PNG_INFO_iCCP)) {
        throw std::runtime_error(path + ": it has a colour profile; save it in sRGB, without one");
    }
}

// Palettes, grey, transparency and 16 bits become RGB or RGBA of 8 bits; gamma is left alone.
bool decode(png_structp png, png_infop info, std::FILE* file) {
    if (setjmp(png_jmpbuf(png))) return false;
    png_init_io(png, file);
    png_set_user_limits(png, kLargest, kLargest);
    png_read_png(png, info, PNG_TRANSFORM_EXPAND | PNG_TRANSFORM_STRIP_16 | PNG_TRANSFORM_GRAY_TO_RGB, nullptr);
    return true;
}

Image read_png(const std::string& path, bool srgb) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    const auto quiet = [](png_structp png, png_const_charp) { png_longjmp(png, 1); };
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, quiet, [](png_structp, png_const_charp) {});
    png_infop info = png ? png_create_info_struct(png) : nullptr;
    const auto destroy = [&](void*) { png_destroy_read_struct(&png, &info, nullptr); };
    const std::unique_ptr<void, decltype(destroy)> guard(&png, destroy);
    if (!file || !info || !decode(png, info, file.get())) throw std::runtime_error(path + ": this PNG is damaged");
    check(png, info, path, srgb);
    return flattened(png, info);
}

#else

Image read_png(const std::string& path, bool) {
    throw std::runtime_error(path + ": built without libpng, this reads PPM alone");
}

#endif

}  // namespace

std::vector<std::uint8_t> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": can't be read");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Image read_image(const std::string& path, bool srgb) {
    const std::vector<std::uint8_t> data = read_file(path);
    const std::string begin(data.begin(), data.begin() + std::min<std::size_t>(data.size(), 8));
    if (begin.substr(0, 2) == "P6") return read_ppm(data, path);
    if (begin == "\x89PNG\r\n\x1a\n") return read_png(path, srgb);
    throw std::runtime_error(path + ": neither a binary PPM nor a PNG");
}
