package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

// runForward is the forwarder, a process of its own: it copies bytes between each client and the
// target through buffers of 256 KiB, and does nothing else. It is the least that a proxy can do.
func runForward(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("forward wants a target")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, l.Addr()); err != nil {
		return err
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", args[0])
			if err != nil {
				return
			}
			defer server.Close()
			go copyBytes(server, client)
			copyBytes(client, server)
		}()
	}
}

// copyBytes hides the connections' splice, which no proxy that looks at its bytes can use.
func copyBytes(to, from net.Conn) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 256<<10)) // a side closed
	_, _ = to.Close(), from.Close()
}
