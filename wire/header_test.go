package wire

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestParseHeaderOfBadRequests(t *testing.T) {
	apiVersions := kmsg.NewPtrApiVersionsRequest()
	apiVersions.Version = 4
	future := AppendRequest(nil, 7, []byte("c"), apiVersions)[4:]
	future[3] = 99 // a version of years to come; its header is flexible
	cases := []struct {
		name  string
		frame []byte
		want  error
		key   int16
		id    int32
	}{
		{"empty", nil, ErrMalformed, 0, 0},
		{"seven bytes", make([]byte, 7), ErrMalformed, 0, 0},
		{"client id cut", []byte{0, 3, 0, 1, 0, 0, 0, 5, 0, 9, 'a'}, ErrMalformed, 3, 5},
		{"client id of minus two bytes", []byte{0, 3, 0, 1, 0, 0, 0, 5, 0xff, 0xfe}, ErrMalformed, 3, 5},
		{"tags cut", []byte{0, 3, 0, 12, 0, 0, 0, 5, 0xff, 0xff}, ErrMalformed, 3, 5},
		{"four billion tags", []byte{0, 3, 0, 12, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f}, ErrMalformed, 3, 5},
		{"unknown key", []byte{0x7f, 0, 0, 1, 0, 0, 0, 5, 0xff, 0xff}, ErrUnknownKey, 0x7f00, 5},
		{"negative key", []byte{0xff, 0xff, 0, 1, 0, 0, 0, 5, 0xff, 0xff}, ErrUnknownKey, -1, 5},
		{"removed key", []byte{0, 4, 0, 1, 0, 0, 0, 5, 0xff, 0xff}, ErrUnknownKey, 4, 5},
		{"controlled shutdown v0 has no client id", []byte{0, 7, 0, 0, 0, 0, 0, 5}, ErrUnknownVersion, 7, 5},
		{"version too new", []byte{0, 3, 0, 99, 0, 0, 0, 5, 0xff, 0xff, 0}, ErrUnknownVersion, 3, 5},
		{"version too old", []byte{0, 0, 0, 2, 0, 0, 0, 5, 0xff, 0xff}, ErrUnknownVersion, 0, 5},
		{"ApiVersions of the future", future, ErrUnknownVersion, 18, 7},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, _, err := ParseHeader(c.frame)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if h.Key != c.key || h.CorrelationID != c.id {
				t.Fatalf("header %+v", h)
			}
		})
	}
}

func TestApiVersionsIsAnsweredWithAPlainHeader(t *testing.T) {
	for v := int16(0); v <= 4; v++ {
		if got := ResponseHeaderVersion(18, v); got != 0 {
			t.Errorf("version %d: response header %d", v, got)
		}
	}
	if got := string(AppendResponseHeader(nil, 18, 3, 1)); got != "\x00\x00\x00\x01" {
		t.Errorf("header %x", got)
	}
}

func TestHeaderNullClientID(t *testing.T) {
	h, body, err := ParseHeader([]byte{0, 3, 0, 12, 0, 0, 0, 5, 0xff, 0xff, 0, 'b'})
	if err != nil || h.ClientID != nil || string(body) != "b" {
		t.Fatal(h, body, err)
	}
	h, _, err = ParseHeader([]byte{0, 3, 0, 1, 0, 0, 0, 5, 0, 0})
	if err != nil || h.ClientID == nil || len(h.ClientID) != 0 {
		t.Fatal(h, err)
	}
}
