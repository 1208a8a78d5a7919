package remote

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/braidstream/braid/span"
)

// Either side proves that it knows the token without sending it:
//
//	client: magic, version, nonce, session, channel, name of the store
//	server: magic, version, nonce, proof over both nonces
//	client: proof
//	server: status, text
//
// A session is one Store; a channel one of its connections. The server ends
// what an older connection of the same channel has under way before it takes a newer
// one, so that nothing sent earlier is submitted later.
const (
	magic        = "braidrpc"
	version      = 1
	nonceSize    = 32
	sessionSize  = 16
	helloFixed   = len(magic) + 2 + nonceSize + sessionSize + 1 + 2
	challengeLen = len(magic) + 2 + nonceSize + sha256.Size

	handshakeTimeout = 5 * time.Second
)

// Results of a handshake.
const (
	statusOK = iota
	statusDenied
	statusUnknownStore
	statusVersion
)

type hello struct {
	nonce   [nonceSize]byte
	session [sessionSize]byte
	channel uint8
	name    string
}

// errVersion: the peers' releases are too far apart.
var errVersion = errors.New("internal protocol versions differ")

func proof(token, side string, client, server []byte, h *hello) []byte {
	m := hmac.New(sha256.New, []byte(token))
	for _, part := range [][]byte{[]byte(side), client, server, h.session[:], {h.channel}, []byte(h.name)} {
		// Lengths keep the parts apart. A hash takes all writes.
		_, _ = m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		_, _ = m.Write(part)
	}
	return m.Sum(nil)
}

func encodeHello(h *hello) []byte {
	b := append([]byte(magic), 0, version)
	b = append(b, h.nonce[:]...)
	b = append(b, h.session[:]...)
	b = append(b, h.channel)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.name)))
	return append(b, h.name...)
}

func readHello(r io.Reader) (h hello, peer uint16, err error) {
	var b [helloFixed]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return h, 0, err
	}
	if string(b[:len(magic)]) != magic {
		return h, 0, fmt.Errorf("%w: not the internal protocol", errFrame)
	}
	at := len(magic)
	peer = binary.BigEndian.Uint16(b[at:])
	at += 2
	at += copy(h.nonce[:], b[at:])
	at += copy(h.session[:], b[at:])
	h.channel = b[at]
	n := int(binary.BigEndian.Uint16(b[at+1:]))
	if n > maxName {
		return h, 0, fmt.Errorf("%w: name of %d bytes", errFrame, n)
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(r, name); err != nil {
		return h, 0, err
	}
	h.name = string(name)
	return h, peer, nil
}

// greet is the client's side.
func greet(conn net.Conn, r *bufio.Reader, token string, h hello) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := rand.Read(h.nonce[:]); err != nil {
		return err
	}
	if _, err := conn.Write(encodeHello(&h)); err != nil {
		return err
	}
	var c [challengeLen]byte
	if _, err := io.ReadFull(r, c[:]); err != nil {
		return err
	}
	if string(c[:len(magic)]) != magic {
		return fmt.Errorf("%w: not the internal protocol", errFrame)
	}
	if v := binary.BigEndian.Uint16(c[len(magic):]); v != version {
		return fmt.Errorf("%w: %d here, %d there", errVersion, version, v)
	}
	nonce := c[len(magic)+2 : len(magic)+2+nonceSize]
	if !hmac.Equal(c[len(magic)+2+nonceSize:], proof(token, "server", h.nonce[:], nonce, &h)) {
		return fmt.Errorf("the peer does not know the internal token: %w", span.ErrDenied)
	}
	if _, err := conn.Write(proof(token, "client", h.nonce[:], nonce, &h)); err != nil {
		return err
	}
	status, text, err := readStatus(r)
	if err != nil {
		return err
	}
	switch status {
	case statusOK:
		return conn.SetDeadline(time.Time{})
	case statusDenied:
		return fmt.Errorf("internal listener: %w: %s", span.ErrDenied, text)
	}
	return fmt.Errorf("internal listener: %w: %s", span.ErrUnavailable, text)
}

func readStatus(r io.Reader) (uint8, string, error) {
	var b [3]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, "", err
	}
	n := int(binary.BigEndian.Uint16(b[1:]))
	if n > maxName {
		return 0, "", fmt.Errorf("%w: status", errFrame)
	}
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return b[0], string(text), err
}

func writeStatus(w io.Writer, status uint8, text string) error {
	text = text[:min(len(text), maxName)]
	b := binary.BigEndian.AppendUint16([]byte{status}, uint16(len(text)))
	_, err := w.Write(append(b, text...))
	return err
}

// receive is the server's side up to the client's proof.
func receive(conn net.Conn, r *bufio.Reader, token string) (hello, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return hello{}, err
	}
	h, peer, err := readHello(r)
	if err != nil {
		return h, err
	}
	var nonce [nonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return h, err
	}
	b := append([]byte(magic), 0, version)
	b = append(b, nonce[:]...)
	b = append(b, proof(token, "server", h.nonce[:], nonce[:], &h)...)
	if _, err := conn.Write(b); err != nil {
		return h, err
	}
	if peer != version {
		return h, fmt.Errorf("%w: %d here, %d there", errVersion, version, peer)
	}
	var got [sha256.Size]byte
	if _, err := io.ReadFull(r, got[:]); err != nil {
		return h, err
	}
	if !hmac.Equal(got[:], proof(token, "client", h.nonce[:], nonce[:], &h)) {
		return h, errors.Join(fmt.Errorf("wrong internal token: %w", span.ErrDenied), writeStatus(conn, statusDenied, "wrong token"))
	}
	return h, nil
}
