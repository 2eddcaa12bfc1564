package portable

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // the formats that pictures may have
	_ "image/png"
	"io"
	"strings"
	"time"
)

// What a picture may cost. What it takes to decode one is known by its header, before any of it is decoded: in grey a photograph of
// 24 million pixels takes 100 MB, and in the deepest colours 240.
const (
	mostPixels  = 24_000_000
	mostSide    = 20_000 // the decoder of PNG holds two lines
	mostPicture = 256 << 20
	// mostLooking is for how long one is looked at. One of 24 million pixels takes two seconds.
	mostLooking = 10 * time.Second
)

// Picture reads the QR codes of a PNG or JPEG: addresses, each as URIs does. It ends soon after ctx does, with the error of that.
func Picture(ctx context.Context, data []byte) (r Reading, err error) {
	texts, err := pictured(ctx, data, mostLooking)
	if err != nil {
		return r, err
	}
	var all addresses
	for i, text := range texts {
		all.take(fmt.Sprintf("code %d", i+1), text)
	}
	return all.end(), nil
}

// pictured are the texts of the QR codes of a picture, each once, if they are found in time.
func pictured(ctx context.Context, data []byte, patience time.Duration) (texts []string, err error) {
	looking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer func() {
		switch {
		case ctx.Err() != nil:
			texts, err = nil, ctx.Err()
		case err != nil && looking.Err() != nil:
			err = malformed("it takes too long to look for QR codes in it: cut them out of it")
		}
	}()
	format, err := affordable(looking, data)
	if err != nil {
		return nil, err
	}
	picture, _, err := image.Decode(&patient{looking, data})
	if err != nil {
		return nil, malformed("the %s is damaged", format)
	}
	g, err := greyed(looking, picture)
	if err != nil {
		return nil, err
	}
	if texts, err = codes(looking, g); err == nil && len(texts) == 0 {
		err = malformed("no QR code is to be found in the %s", format)
	}
	return texts, err
}

// affordable refuses, by its header, a picture that would take more memory than one that is meant to be read.
func affordable(ctx context.Context, data []byte) (format string, err error) {
	header, format, err := image.DecodeConfig(&patient{ctx, data})
	if err != nil || format != "png" && format != "jpeg" {
		return "", malformed("it is neither PNG nor JPEG")
	}
	width, height := header.Width, header.Height
	switch {
	case width < 1 || height < 1 || width > mostPixels/height:
		return "", malformed("the %s has %d × %d pixels, which is over %d million", format, width, height, mostPixels/1_000_000)
	case width > mostSide || height > mostSide:
		return "", malformed("the %s has %d × %d pixels; at most %d are read in a line", format, width, height, mostSide)
	case width*height*depth(header.ColorModel, format, data) > mostPicture:
		return "", malformed("the %s has %d × %d pixels of a kind that takes over %d MiB: save it with fewer", format, width, height, mostPicture>>20)
	}
	return format, nil
}

// depth is how many bytes each pixel takes until its QR codes are read: what the decoders of Go's library make of it, and three for the
// grey that is made of that and what is done with it.
func depth(model color.Model, format string, data []byte) int {
	n, samples := 4, 3 // RGBA and NRGBA
	if _, paletted := model.(color.Palette); paletted {
		model = color.GrayModel
	}
	switch model {
	case color.GrayModel:
		n, samples = 1, 1
	case color.Gray16Model:
		n = 2
	case color.YCbCrModel:
		n = 3
	case color.CMYKModel:
		n, samples = 8, 4 // beside what it is made of
	case color.RGBA64Model, color.NRGBA64Model:
		n = 8
	}
	switch {
	case format == "jpeg" && model == color.RGBAModel: // the same
		n = 7
	case format == "png" && n < 4 && bytes.Contains(data, []byte("tRNS")): // which makes colours of grey
		n *= 4
	}
	// Of an interlaced PNG there is as much again, in parts. A progressive JPEG is held in coefficients of four bytes for each sample; in one
	// that is not, this marker is nowhere, except by chance in what is not the picture.
	if format == "png" && len(data) > 28 && data[28] != 0 {
		n *= 2
	} else if format == "jpeg" && bytes.Contains(data, []byte("\xff\xc2")) {
		n += 4 * samples
	}
	return n + 3
}

// patient gives a decoder, which knows of no context, what it reads in small parts as long as there is time: a JPEG of ten megabytes can
// paint the same picture a hundred thousand times.
type patient struct {
	ctx  context.Context //nolint:containedctx // of one call
	data []byte
}

// Read is of io.Reader.
func (p *patient) Read(to []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(to[:min(len(to), 512)], p.data)
	p.data = p.data[n:]
	return n, nil
}

// greyed is a picture in grey, on white: what is transparent would be black.
func greyed(ctx context.Context, picture image.Image) (*grey, error) {
	b := picture.Bounds()
	g := newGrey(b.Dx(), b.Dy())
	at := func(x, y int) color.RGBA64 {
		r, gr, bl, a := picture.At(x, y).RGBA()
		return color.RGBA64{uint16(r), uint16(gr), uint16(bl), uint16(a)}
	}
	if fast, ok := picture.(image.RGBA64Image); ok { // as all are that Go's decoders make
		at = fast.RGBA64At
	}
	n := 0
	for y := b.Min.Y; y < b.Max.Y; y++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for x := b.Min.X; x < b.Max.X; x++ {
			c := at(x, y)
			g.light[n] = byte((19595*uint32(c.R) + 38470*uint32(c.G) + 7471*uint32(c.B) + 65536*uint32(0xffff-c.A) + 1<<15) >> 24)
			n++
		}
	}
	return g, nil
}

func appendNew(all []string, s string) []string {
	s = strings.TrimSpace(strings.ReplaceAll(s, "\n", " "))
	for _, t := range all {
		if t == s {
			return all
		}
	}
	return append(all, s)
}
