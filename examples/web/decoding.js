// An image file to the pixels that pipeline.onnx takes: RGB, upright, over white, whole.

const IGNORED = new Set(['gAMA', 'cHRM', 'cICP']) // chunks of a PNG, as docs/images.md says

// Returns {data: Uint8Array of height x width x 3, width, height}.
export async function decode(file, colour) {
  const srgb = colour === 'srgb'
  const bitmap = await createImageBitmap(srgb ? await withProfileAlone(file) : file, {
    imageOrientation: 'from-image', // by EXIF, but for Chromium's WebP
    premultiplyAlpha: 'default', // white shows through
    colorSpaceConversion: srgb ? 'default' : 'none', // as the manifest says of ICC profiles
  })
  const { width, height } = bitmap
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true, colorSpace: 'srgb' })
  context.fillStyle = 'white'
  context.fillRect(0, 0, width, height)
  context.drawImage(bitmap, 0, 0)
  bitmap.close()
  const rgba = context.getImageData(0, 0, width, height).data
  const data = new Uint8Array(width * height * 3)
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from]
    data[to++] = rgba[from + 1]
    data[to++] = rgba[from + 2]
  }
  return { data, width, height }
}

// A PNG without what else than a profile says which colours it has.
async function withProfileAlone(file) {
  const data = new Uint8Array(await file.arrayBuffer())
  const view = new DataView(data.buffer)
  if (data.length < 8 || view.getUint32(0) !== 0x89504e47) return file
  const parts = [data.subarray(0, 8)]
  for (let at = 8, end; at + 12 <= data.length; at = end) {
    end = at + 12 + view.getUint32(at)
    if (!IGNORED.has(String.fromCharCode(...data.subarray(at + 4, at + 8)))) parts.push(data.subarray(at, end))
  }
  return new Blob(parts)
}

export async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data))
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('')
}
