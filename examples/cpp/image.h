// An image file as pixels: PPM, and PNG where libpng is there.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct Image {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::vector<std::uint8_t> pixels;  // red, green and blue of each pixel, row by row

    explicit Image(std::size_t h, std::size_t w)
        : height(static_cast<std::int64_t>(h)), width(static_cast<std::int64_t>(w)), pixels(h * w * 3) {}
};

std::vector<std::uint8_t> read_file(const std::string& path);

// Throws std::runtime_error, naming the file and what is wrong with it: a PNG that has to be turned, or, where colours have to be
// sRGB's, one with a profile, is refused, as nothing here turns or converts.
Image read_image(const std::string& path, bool srgb);
