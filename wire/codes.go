package wire

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Code is a Kafka error code. As an error it stands for itself, so that
// errors.As finds it in a chain; None is no error: use Err.
type Code int16

// known tells whether c is in the table.
func (c Code) known() bool { return c >= -1 && int(c)+1 < len(codeTable) }

// Name is the code's name in the protocol, such as NOT_LEADER_OR_FOLLOWER.
func (c Code) Name() string {
	if !c.known() {
		return fmt.Sprintf("CODE_%d", int16(c))
	}
	return codeTable[c+1].name
}

// String is the name.
func (c Code) String() string { return c.Name() }

// Error is the name with a short explanation.
func (c Code) Error() string {
	if m := c.Message(); m != "" {
		return c.Name() + ": " + m
	}
	return c.Name()
}

// Message explains the code for people; "" if there is nothing to say.
func (c Code) Message() string {
	if !c.known() || c == None {
		return ""
	}
	if e := kerr.TypedErrorForCode(int16(c)); e != nil && e.Code == int16(c) {
		return e.Description
	}
	return ""
}

// Retriable tells whether clients try again by themselves.
func (c Code) Retriable() bool { return c.known() && codeTable[c+1].retriable }

// Err is nil for None, else c.
func (c Code) Err() error {
	if c == None {
		return nil
	}
	return c
}
