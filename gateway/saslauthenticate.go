package gateway

// SaslAuthenticate, key 36, versions 0 to 2.
//
// Like Apache Kafka: whatever is wrong with a name or a password, the client is
// told the same, and the connection ends after the answer. The answer to the
// last message says how long the session lasts (KIP-368).
//
// Differences: failures are answered the later the more of them came from the
// address or for the user; connection.failed.authentication.delay.ms is the
// first such delay.

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

func serveSaslAuthenticate(asked *call) error {
	var end error
	err := message(func(call *call, req *kmsg.SASLAuthenticateRequest) kmsg.Response {
		var resp kmsg.Response
		resp, end = saslAuthenticate(call, req)
		return resp
	})(asked)
	if err == nil {
		err = end
	}
	return err
}

func saslAuthenticate(call *call, req *kmsg.SASLAuthenticateRequest) (kmsg.Response, error) {
	c := call.c
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.SASLAuthBytes = []byte{}
	if !c.awaits() {
		resp.ErrorCode = call.failed(wire.IllegalSASLState)
		text := "SaslAuthenticate request received after successful authentication"
		resp.ErrorMessage = &text
		return resp, nil
	}
	answer, err := c.step(req.SASLAuthBytes, call.start)
	if err != nil {
		text := "Authentication failed"
		var failed *sasl.FailedError
		if errors.As(err, &failed) {
			text = failed.Client
		}
		resp.ErrorMessage = &text
		resp.ErrorCode = call.failed(wire.SASLAuthenticationFailed)
		return resp, fmt.Errorf("%w: %w", errAuthentication, err)
	}
	if answer != nil {
		resp.SASLAuthBytes = answer
	}
	if c.auth.phase == phaseDone {
		resp.SessionLifetimeMillis = c.auth.lifetime(time.Now())
	}
	return resp, c.refused // one too many of its tenant's is answered, and ended
}
