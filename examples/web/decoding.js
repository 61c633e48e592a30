// An image file to the pixels that pipeline.onnx takes: RGB, upright, over white, whole.

// Returns {data: Uint8Array of height x width x 3, width, height}.
export async function decode(file, colour) {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: 'from-image', // EXIF is applied
    premultiplyAlpha: 'default', // white shows through
    colorSpaceConversion: colour === 'srgb' ? 'default' : 'none', // as the manifest says of ICC profiles
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

export async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data))
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('')
}
