/* wsload - a cheap, single-threaded, epoll WebSocket load generator.
 *
 * It measures a *server*: it opens connections, performs the opening
 * handshake, then sends pre-masked (and, when asked, pre-compressed) frames
 * whose bytes were all prepared before the clock starts, so that its own cost
 * per message is a memcpy-free send() of a contiguous run of ready frames and
 * a header-only parse of the replies.  The server's CPU time is read by the
 * generator itself, through the POSIX per-process CPU clock (nanoseconds), at
 * the very instants at which the message counter is read.
 *
 * One JSON object is printed on stdout.
 *
 * Modes
 *   echo   N connections, W messages in flight each, for a fixed time
 *   bcast  N connections, 1 publisher; a round ends when all N received it
 *   hs     connect + upgrade + one echo + closing handshake, C at a time
 *   idle   N connections, one echo each, then wait for a line on stdin
 *   scale  N connections, nothing else; then one echo on each of them (memory is
 *          read), R more rounds of that, closing handshakes; C at a time
 *   pace   N connections in turn, RATE messages a second in all, each sent when it
 *          is due, whatever has become of those before it
 *
 * --latency: how long each message took, as quantiles.  In echo mode it is due
 * when the reply before it is here; in pace mode the schedule says when, and
 * that is what counts: a server that stalls cannot put off the messages that
 * would have seen it stall.
 *
 * With -DWITH_TLS (and -lssl -lcrypto) there is --tls: the same over TLS, whose
 * certificate is not verified.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

#ifdef WITH_TLS
#include <openssl/ssl.h>
static SSL_CTX *tls_ctx;
#endif

enum { MODE_ECHO, MODE_BCAST, MODE_HS, MODE_IDLE, MODE_SCALE, MODE_PACE };
enum { ST_FREE, ST_CONNECT, ST_TLS, ST_HANDSHAKE, ST_OPEN, ST_CLOSING, ST_HALF };

typedef struct {
    int fd, state;
    void *ssl;              /* NULL: plain TCP */
    int pending;            /* TLS wants the same again: 1 frames, 2 control */
    uint32_t events;
    char hs[4096];          /* handshake response head */
    int hslen;
    /* reply parser */
    uint8_t hdr[14];
    int hdrlen;
    uint64_t remain;        /* payload bytes still to come */
    uint64_t msglen;        /* payload bytes of the current message */
    uint8_t op, fin, mop;
    uint8_t ctl[128];
    int ctllen;
    int verify;             /* compare this message with the sent one */
    uint64_t raw_acc;
    /* sender */
    int next;               /* frame index */
    size_t off;             /* offset inside frame `next' */
    uint64_t to_send;       /* whole frames still to send */
    uint8_t out[256];       /* control frames to send at a frame boundary */
    int outlen;
    double t_close;
    int rxidx;              /* index of the frame expected next */
    double t_due;           /* echo: when the message in flight was due */
    uint64_t answered;      /* pace: messages that came back */
} conn_t;

static int port, nconns = 1, window = 1, mode = MODE_ECHO, raw_mode, deflate,
           opcode = 1, conc = 16, tls, drain, nsources, rounds = 4, latency;
static double secs = 1.0, warmup = 0.3, hard_limit = 60.0, rate;
static const char *path = "/echo";
static int pids[64], npids;
static clockid_t clocks[64];
static conn_t *C;
static int ep;

static uint8_t *blob;          /* all frames, back to back */
static size_t *foff;           /* nframes + 1 offsets */
static uint8_t **fpl;          /* plain payloads (what was masked) */
static size_t *fpllen;
static int nframes;

static uint64_t msgs, rxbytes, cycles, srv_closed, late_closed, failures;
static int n_open;
static char ext_line[256];
static uint8_t first_reply[8192];
static uint64_t first_reply_len;
static int first_reply_done;
static int bc_got;
static uint64_t bc_rounds;
static int running = 1;
static uint64_t in_flight;
static char tls_line[128];

/* what a phase of the scale mode cost */
typedef struct { double secs, cpu; uint64_t n; } cost_t;
static int sc_closing, sc_next, sc_done;    /* of the round or the closing */

/* Latencies of what was due while it was measured, and how late we were to send. */
static hist_t times, lateness;
static double count_from, count_until;
static double pace_start;
static uint64_t pace_sent, pace_answered;
static int pace_timer, timer_tag;

static uint8_t *rbuf;
static const size_t RBUF = 512 * 1024;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double target_cpu(void) {
    double s = 0;
    for (int i = 0; i < npids; i++) {
        struct timespec t;
        if (clock_gettime(clocks[i], &t) == 0) s += t.tv_sec + t.tv_nsec * 1e-9;
    }
    return s;
}

static void target_ticks(double *ut, double *st) {
    *ut = *st = 0;
    for (int i = 0; i < npids; i++) {
        char p[64], b[1024];
        snprintf(p, sizeof p, "/proc/%d/stat", pids[i]);
        FILE *f = fopen(p, "r");
        if (!f) continue;
        size_t n = fread(b, 1, sizeof b - 1, f);
        fclose(f);
        b[n] = 0;
        char *q = strrchr(b, ')');
        unsigned long u, s;
        static const char fields[] = "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu";
        if (q && sscanf(q + 2, fields, &u, &s) == 2) {
            *ut += u; *st += s;
        }
    }
}

static void die(const char *m) {
    printf("{\"error\": \"%s\", \"errno\": %d, \"msgs\": %llu, \"open\": %d}\n", m, errno,
           (unsigned long long)msgs, n_open);
    fflush(stdout);
    exit(3);
}

static double target_rss_kib(void) {
    double kib = 0;
    for (int i = 0; i < npids; i++) {
        char p[64];
        unsigned long all, res;
        snprintf(p, sizeof p, "/proc/%d/statm", pids[i]);
        FILE *f = fopen(p, "r");
        if (!f) continue;
        if (fscanf(f, "%lu %lu", &all, &res) == 2) kib += res * (sysconf(_SC_PAGESIZE) / 1024.0);
        fclose(f);
    }
    return kib;
}

/* ---- send and recv, over TLS or not: like the system calls ---- */
#ifdef WITH_TLS
static ssize_t tls_result(conn_t *c, int r) {
    switch (SSL_get_error(c->ssl, r)) {
    case SSL_ERROR_WANT_READ: case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL: if (errno == 0) return 0; return -1;
    default: errno = EPROTO; return -1;
    }
}
#endif

static ssize_t net_send(conn_t *c, const void *p, size_t n) {
#ifdef WITH_TLS
    if (c->ssl) {
        if (n > 1 << 30) n = 1 << 30;
        errno = 0;
        int r = SSL_write(c->ssl, p, n);
        return r > 0 ? r : tls_result(c, r) == 0 ? (errno = EPIPE, -1) : -1;
    }
#endif
    return send(c->fd, p, n, MSG_NOSIGNAL);
}

static ssize_t net_recv(conn_t *c, void *p, size_t n) {
#ifdef WITH_TLS
    if (c->ssl) {
        errno = 0;
        int r = SSL_read(c->ssl, p, n);
        return r > 0 ? r : tls_result(c, r);
    }
#endif
    return recv(c->fd, p, n, 0);
}

static void half_close(conn_t *c) {
#ifdef WITH_TLS
    if (c->ssl) SSL_shutdown(c->ssl);
#endif
    shutdown(c->fd, SHUT_WR);
}

static void set_events(conn_t *c, uint32_t ev) {
    if (c->events == ev) return;
    struct epoll_event e = {.events = ev, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    c->events = ev;
}

static void start_conn(conn_t *c) {
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (nsources) {     /* each source address has its own ephemeral ports */
        struct sockaddr_in b = {.sin_family = AF_INET};
        b.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (c - C) % nsources);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (void *)&b, sizeof b) < 0) die("bind");
    }
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(c->fd, (void *)&a, sizeof a) < 0 && errno != EINPROGRESS) die("connect");
    c->state = ST_CONNECT;
    c->verify = 1;
    struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
    c->events = EPOLLOUT;
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
}

static void send_request(conn_t *c) {
    char b[1024];
    int n = snprintf(b, sizeof b,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n%s\r\n", path, port,
        deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    if (net_send(c, b, n) != n) die("handshake send");
    c->state = ST_HANDSHAKE;
    set_events(c, EPOLLIN);
}

static void connected(conn_t *c) {
    if (raw_mode) { c->state = ST_OPEN; n_open++; set_events(c, EPOLLIN); }
    else send_request(c);
}

static void tls_step(conn_t *c) {
#ifdef WITH_TLS
    if (!c->ssl) {
        c->state = ST_TLS;
        c->ssl = SSL_new(tls_ctx);
        if (!c->ssl || !SSL_set_fd(c->ssl, c->fd)) die("TLS set-up");
        SSL_set_connect_state(c->ssl);
    }
    int r = SSL_do_handshake(c->ssl);
    if (r == 1) {
        snprintf(tls_line, sizeof tls_line, "%s %s", SSL_get_version(c->ssl),
                 SSL_get_cipher_name(c->ssl));
        connected(c);
        return;
    }
    switch (SSL_get_error(c->ssl, r)) {
    case SSL_ERROR_WANT_READ: set_events(c, EPOLLIN); break;
    case SSL_ERROR_WANT_WRITE: set_events(c, EPOLLOUT); break;
    default: die("TLS handshake failed");
    }
#else
    (void)c;
#endif
}

static void flush_conn(conn_t *c) {
    for (;;) {
        if (c->off == 0 && c->outlen && c->pending != 1) {  /* frame boundary: control first */
            ssize_t k = net_send(c, c->out, c->outlen);
            c->pending = k < 0 ? 2 : 0;
            if (k < 0) { if (errno == EAGAIN) break; goto fail; }
            memmove(c->out, c->out + k, c->outlen - k);
            c->outlen -= k;
            if (c->outlen) break;
            continue;
        }
        if (!c->to_send) { if (c->events & EPOLLOUT) set_events(c, EPOLLIN); return; }
        uint64_t run = nframes - c->next;
        if (run > c->to_send) run = c->to_send;
        size_t beg = foff[c->next] + c->off, end = foff[c->next + run];
        ssize_t k = net_send(c, blob + beg, end - beg);
        c->pending = k < 0;
        if (k < 0) { if (errno == EAGAIN) break; goto fail; }
        size_t pos = beg + k;
        while (c->to_send && pos >= foff[c->next + 1]) {
            c->to_send--;
            c->next++;
            if (c->next == nframes) { c->next = 0; pos = pos == foff[nframes] ? 0 : pos; break; }
        }
        c->off = (c->next == 0 && pos == 0) ? 0 : pos - foff[c->next];
        if ((size_t)k < end - beg && !c->ssl) break;    /* TLS: one record at a time */
    }
    set_events(c, EPOLLIN | EPOLLOUT);
    return;
fail:
    if (mode == MODE_HS || sc_closing) return;
    die("send failed");
}

static void finish_conn(conn_t *c) {
    epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, NULL);
#ifdef WITH_TLS
    if (c->ssl) { SSL_free(c->ssl); c->ssl = NULL; }
#endif
    close(c->fd);
    c->state = ST_FREE;
}

static void send_close(conn_t *c) {
    /* masked close 1000, key 0x01020304 */
    static const uint8_t cl[] = {0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2};
    memcpy(c->out + c->outlen, cl, sizeof cl);
    c->outlen += sizeof cl;
    c->state = ST_CLOSING;
    c->t_close = now();
}

static int closes(void) { return mode == MODE_HS || sc_closing; }

/* scale: the next connection's turn */
static void sc_launch(void) {
    if (sc_next == nconns) return;
    conn_t *c = &C[sc_next++];
    if (sc_closing) send_close(c);
    else c->to_send = 1;
    flush_conn(c);
}

static void sc_round(int closing) {
    sc_closing = closing;
    sc_next = sc_done = 0;
    for (int i = 0; i < conc; i++) sc_launch();
}

static void closed_one(conn_t *c) {
    cycles++;
    finish_conn(c);
    if (mode == MODE_SCALE) { sc_done++; sc_launch(); }
    else if (running) start_conn(c);
}

/* ---- pace: message k is due k / rate seconds after the start, on connection k % N ---- */
static double due(uint64_t k) { return pace_start + k / rate; }

static int counts(double t) { return t >= count_from && t < count_until; }

static void pace_wake(void) {
    double t = due(pace_sent);
    if (t >= count_until) return;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)t, .tv_nsec = (t - (time_t)t) * 1e9}};
    timerfd_settime(pace_timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void pace_launch(void) {
    double t = now();
    while (due(pace_sent) <= t && due(pace_sent) < count_until) {
        if (counts(due(pace_sent))) hist_add(&lateness, t - due(pace_sent));
        conn_t *c = &C[pace_sent++ % nconns];
        c->to_send++;
        flush_conn(c);
    }
    pace_wake();
}

static void pace_answer(conn_t *c) {
    double t = due(c->answered++ * nconns + (c - C));
    pace_answered++;
    if (counts(t)) hist_add(&times, now() - t);
}

static void echo_answer(conn_t *c) {
    double t = now();
    if (counts(c->t_due)) hist_add(&times, t - c->t_due);
    c->t_due = t;
}

static void on_message(conn_t *c) {
    msgs++;
    if (!first_reply_done) first_reply_done = 1;
    if (!deflate && !raw_mode && c->msglen != fpllen[c->rxidx]) die("reply has the wrong length");
    if (!raw_mode && c->mop != opcode) die("reply has the wrong opcode");
    if (mode != MODE_BCAST && ++c->rxidx == nframes) c->rxidx = 0;
    c->verify = 0;
    switch (mode) {
    case MODE_ECHO:
        if (latency) echo_answer(c);
        if (running) c->to_send++; else in_flight--;
        break;
    case MODE_BCAST:
        if (++bc_got == nconns) {
            bc_got = 0; bc_rounds++;
            if (running) { C[0].to_send++; flush_conn(&C[0]); }
            else in_flight = 0;
        }
        break;
    case MODE_HS:
        send_close(c);
        break;
    case MODE_IDLE:
        break;
    case MODE_PACE:
        pace_answer(c);
        break;
    case MODE_SCALE:
        sc_done++;
        sc_launch();
        break;
    }
}

static void fill(void) {
    running = 1;
    if (mode == MODE_PACE) {
        count_from = count_until = 1e300;      /* nothing yet; no end to it yet */
        pace_start = now();
        pace_wake();
        return;
    }
    if (mode == MODE_BCAST) {
        in_flight = nconns;
        C[0].to_send = 1;
        flush_conn(&C[0]);
        return;
    }
    in_flight = (uint64_t)nconns * window;
    for (int i = 0; i < nconns; i++) { C[i].to_send = window; flush_conn(&C[i]); }
}

/* --drain: measure from nothing in flight to nothing in flight, which matters
 * where the windows together are not small against what the time allows. */
static int stopped(void) {
    if (!drain) return 1;
    running = 0;
    return in_flight == 0;
}

static void on_control(conn_t *c) {
    if (c->op == 9) {                               /* ping -> pong */
        if (c->outlen + 6 + c->ctllen > (int)sizeof c->out) return;
        uint8_t *o = c->out + c->outlen;
        o[0] = 0x8a; o[1] = 0x80 | c->ctllen;
        o[2] = 0; o[3] = 0; o[4] = 0; o[5] = 0;
        memcpy(o + 6, c->ctl, c->ctllen);
        c->outlen += 6 + c->ctllen;
    } else if (c->op == 8) {
        if (mode == MODE_HS || c->state == ST_CLOSING) { c->state = ST_HALF; half_close(c); }
        else die("server sent a close frame");
    }
}

static void parse_frames(conn_t *c, const uint8_t *p, size_t n) {
    const uint8_t *e = p + n;
    while (p < e) {
        if (c->hdrlen >= 0) {
            int need = 2;
            if (c->hdrlen >= 2) {
                int l = c->hdr[1] & 127;
                need = l == 126 ? 4 : l == 127 ? 10 : 2;
            }
            while (c->hdrlen < need && p < e) {
                c->hdr[c->hdrlen++] = *p++;
                if (c->hdrlen == 2) {
                    if (c->hdr[1] & 0x80) die("server sent a masked frame");
                    int l = c->hdr[1]; need = l == 126 ? 4 : l == 127 ? 10 : 2;
                }
            }
            if (c->hdrlen < need) return;
            uint64_t l = c->hdr[1] & 127;
            if (l == 126) l = (uint64_t)c->hdr[2] << 8 | c->hdr[3];
            else if (l == 127) { l = 0; for (int i = 2; i < 10; i++) l = l << 8 | c->hdr[i]; }
            c->op = c->hdr[0] & 15; c->fin = c->hdr[0] >> 7;
            c->remain = l;
            if (c->op == 1 || c->op == 2) { c->mop = c->op; c->msglen = 0; }
            if (c->op >= 8) c->ctllen = 0;
            c->hdrlen = -1;
        }
        uint64_t k = e - p;
        if (k > c->remain) k = c->remain;
        if (c->op < 8) {
            if (!first_reply_done && c == &C[0]) {
                for (uint64_t i = 0; i < k && first_reply_len < sizeof first_reply; i++)
                    first_reply[first_reply_len++] = p[i];
            }
            if (c->verify && !deflate) {
                if (c->msglen + k > fpllen[c->rxidx] || memcmp(fpl[c->rxidx] + c->msglen, p, k))
                    die("reply differs");
            }
            c->msglen += k; rxbytes += k;
        } else if (c->ctllen + k <= sizeof c->ctl) {
            memcpy(c->ctl + c->ctllen, p, k);
            c->ctllen += k;
        }
        p += k; c->remain -= k;
        if (c->remain == 0) {
            c->hdrlen = 0;
            if (c->op >= 8) on_control(c);
            else if (c->fin) on_message(c);
        }
    }
}

static void on_readable(conn_t *c) {
    for (;;) {
        ssize_t k = net_recv(c, rbuf, RBUF);
        if (k < 0) {
            if (errno == EAGAIN) break;
            if (closes() && (c->state == ST_CLOSING || c->state == ST_HALF)) { k = 0; }
            else die("recv failed");
        }
        if (k == 0) {
            if (closes() && (c->state == ST_HALF || c->state == ST_CLOSING)) {
                if (c->state == ST_HALF) srv_closed++; else failures++;
                closed_one(c);
                return;
            }
            die("server closed the connection");
        }
        uint8_t *p = rbuf;
        if (c->state == ST_HANDSHAKE) {
            int room = sizeof c->hs - 1 - c->hslen;
            int m = k < room ? k : room;
            memcpy(c->hs + c->hslen, p, m);
            int before = c->hslen;
            c->hslen += m; c->hs[c->hslen] = 0;
            char *e = strstr(c->hs, "\r\n\r\n");
            if (!e) { if (c->hslen > 4000) die("handshake too long"); continue; }
            if (strncmp(c->hs, "HTTP/1.1 101", 12)) die("handshake refused");
            if (!strstr(c->hs, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) die("bad Sec-WebSocket-Accept");
            char *x = strcasestr(c->hs, "sec-websocket-extensions:");
            if (x && x < e) { char *y = strstr(x, "\r\n"); int z = y - x - 25; if (z > 250) z = 250;
                memcpy(ext_line, x + 25, z); ext_line[z] = 0; }
            else if (deflate) { ext_line[0] = 0; }
            int used = (e + 4 - c->hs) - before;
            p += used; k -= used;
            c->state = ST_OPEN; n_open++;
            if (mode == MODE_HS || mode == MODE_IDLE) { c->to_send = 1; flush_conn(c); }
            if (k == 0) { if (c->ssl) continue; break; }
        }
        if (raw_mode) {
            c->raw_acc += k; rxbytes += k;
            size_t fl = foff[1];
            while (c->raw_acc >= fl) { c->raw_acc -= fl; on_message(c); }
        } else parse_frames(c, p, k);
        if (c->state == ST_FREE) return;
        if ((size_t)k < RBUF && !c->ssl) break;     /* TLS: until it wants more */
    }
    if (c->to_send || c->outlen) flush_conn(c);
}

static void load_payloads(const char *fn) {
    /* file: u32 count, then count * (u32 plain_len, plain, u32 wire_len, wire, u8 rsv1) */
    FILE *f = fopen(fn, "rb");
    if (!f) die("payload file");
    uint32_t n;
    if (fread(&n, 4, 1, f) != 1) die("payload file");
    int mult = 1;
    while ((int)n * mult < 64 && mult < 64) mult *= 2;     /* long contiguous runs */
    uint8_t **w = calloc(n, sizeof *w), **pl = calloc(n, sizeof *pl), *rs = calloc(n, 1);
    size_t *wl = calloc(n, sizeof *wl), *pll = calloc(n, sizeof *pll);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t a, b;
        if (fread(&a, 4, 1, f) != 1) die("payload");
        pl[i] = malloc(a + 1); pll[i] = a;
        if (fread(pl[i], 1, a, f) != a) die("payload");
        if (fread(&b, 4, 1, f) != 1) die("payload");
        w[i] = malloc(b + 1); wl[i] = b;
        if (fread(w[i], 1, b, f) != b) die("payload");
        if (fread(&rs[i], 1, 1, f) != 1) die("payload");
    }
    fclose(f);
    if (wl[0] > 100000) mult = 2;
    nframes = n * mult;
    size_t tot = 0;
    for (int i = 0; i < nframes; i++) tot += wl[i % n] + 14;
    blob = malloc(tot); foff = calloc(nframes + 1, sizeof *foff);
    fpl = calloc(nframes, sizeof *fpl); fpllen = calloc(nframes, sizeof *fpllen);
    size_t o = 0;
    srand(7);
    for (int i = 0; i < nframes; i++) {
        size_t l = wl[i % n]; uint8_t *d = w[i % n];
        fpl[i] = pl[i % n]; fpllen[i] = pll[i % n];
        foff[i] = o;
        uint8_t key[4] = {rand() | 1, rand() | 1, rand() | 1, rand() | 1};
        blob[o++] = 0x80 | (rs[i % n] ? 0x40 : 0) | opcode;
        if (l < 126) blob[o++] = 0x80 | l;
        else if (l < 65536) { blob[o++] = 0x80 | 126; blob[o++] = l >> 8; blob[o++] = l; }
        else {
            blob[o++] = 0x80 | 127;
            for (int s = 56; s >= 0; s -= 8) blob[o++] = (uint64_t)l >> s;
        }
        memcpy(blob + o, key, 4); o += 4;
        for (size_t j = 0; j < l; j++) blob[o + j] = d[j] ^ key[j & 3];
        o += l;
    }
    foff[nframes] = o;
}

/* What was counted up to an instant, and what it had cost by then. */
typedef struct {
    double at, cpu, user_ticks, sys_ticks, own_cpu;
    uint64_t msgs, bytes, rounds;
} sample_t;

static sample_t sample(void) {
    sample_t s = {.cpu = target_cpu(), .at = now(), .msgs = msgs, .bytes = rxbytes};
    s.rounds = mode == MODE_HS ? cycles : bc_rounds;
    target_ticks(&s.user_ticks, &s.sys_ticks);
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    s.own_cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec;
    s.own_cpu += 1e-6 * (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
    return s;
}

/* Whether more has come back than was on its way at first: with less, what it cost
 * might lie before. Only where the machine gives the server next to no time. */
static int enough(const sample_t *first) {
    if (drain) return 1;
    if (mode == MODE_HS) return cycles - first->rounds > (uint64_t)conc;
    return msgs - first->msgs > (uint64_t)nconns * window;
}

static void print_phases(const cost_t cost[4], const double rss[3]) {
    static const char *names[] = {"setup", "first", "echo", "close"};
    printf("{");
    for (int i = 0; i < 4; i++)
        printf("\"%s\": {\"n\": %llu, \"secs\": %.6f, \"cpu_s\": %.9f}, ", names[i],
               (unsigned long long)cost[i].n, cost[i].secs, cost[i].cpu);
    printf("\"rss_kib\": [%.0f, %.0f, %.0f], \"srv_closed\": %llu, \"late_closed\": %llu, "
           "\"failures\": %llu}\n", rss[0], rss[1], rss[2], (unsigned long long)srv_closed,
           (unsigned long long)late_closed, (unsigned long long)failures);
}

static void print_difference(const sample_t *a, const sample_t *b) {
    printf("{\"secs\": %.6f, \"cpu_s\": %.9f, ", b->at - a->at, b->cpu - a->cpu);
    printf("\"msgs\": %llu, \"rx_bytes\": %llu, \"rounds\": %llu, ",
           (unsigned long long)(b->msgs - a->msgs), (unsigned long long)(b->bytes - a->bytes),
           (unsigned long long)(b->rounds - a->rounds));
    printf("\"user_ticks\": %.0f, \"sys_ticks\": %.0f, \"gen_cpu_s\": %.6f, ",
           b->user_ticks - a->user_ticks, b->sys_ticks - a->sys_ticks, b->own_cpu - a->own_cpu);
    printf("\"srv_closed\": %llu, \"late_closed\": %llu, \"failures\": %llu, ",
           (unsigned long long)srv_closed, (unsigned long long)late_closed,
           (unsigned long long)failures);
    printf("\"tls\": \"%s\", \"ext\": \"", tls_line);
    for (char *q = ext_line; *q; q++) if (*q != '"' && *q != '\\') putchar(*q);
    printf("\", \"first_reply\": \"");
    if (deflate) for (uint64_t i = 0; i < first_reply_len; i++) printf("%02x", first_reply[i]);
    printf("\"");
    if (latency)
        printf(", \"latency\": {\"n\": %llu, \"p50_us\": %.2f, \"p99_us\": %.2f, "
               "\"p999_us\": %.2f, \"max_us\": %.2f, \"late_p99_us\": %.2f}",
               (unsigned long long)times.count, hist_quantile(&times, 0.5),
               hist_quantile(&times, 0.99), hist_quantile(&times, 0.999), times.largest / 1e3,
               hist_quantile(&lateness, 0.99));
    printf("}\n");
}

int main(int argc, char **argv) {
    const char *pf = NULL;
    static struct option o[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'P'}, {"conns", 1, 0, 'n'}, {"window", 1, 0, 'w'},
        {"secs", 1, 0, 's'}, {"warmup", 1, 0, 'u'}, {"payload", 1, 0, 'f'}, {"op", 1, 0, 'o'},
        {"deflate", 0, 0, 'd'}, {"raw", 0, 0, 'r'}, {"pids", 1, 0, 'i'}, {"mode", 1, 0, 'm'},
        {"conc", 1, 0, 'k'}, {"limit", 1, 0, 'l'}, {"tls", 0, 0, 't'},
        {"drain", 0, 0, 'a'}, {"sources", 1, 0, 'S'}, {"rounds", 1, 0, 'R'}, {"latency", 0, 0, 'y'},
        {"rate", 1, 0, 'g'}, {0}};
    for (int ch; (ch = getopt_long(argc, argv, "", o, NULL)) != -1;) switch (ch) {
        case 'p': port = atoi(optarg); break;
        case 'P': path = optarg; break;
        case 'n': nconns = atoi(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 's': secs = atof(optarg); break;
        case 'u': warmup = atof(optarg); break;
        case 'f': pf = optarg; break;
        case 'o': opcode = atoi(optarg); break;
        case 'd': deflate = 1; break;
        case 'r': raw_mode = 1; break;
        case 'k': conc = atoi(optarg); break;
        case 'l': hard_limit = atof(optarg); break;
        case 't': tls = 1; break;
        case 'a': drain = 1; break;
        case 'S': nsources = atoi(optarg); break;
        case 'R': rounds = atoi(optarg); break;
        case 'y': latency = 1; break;
        case 'g': rate = atof(optarg); break;
        case 'm': mode = !strcmp(optarg, "echo") ? MODE_ECHO : !strcmp(optarg, "bcast") ? MODE_BCAST
                       : !strcmp(optarg, "hs") ? MODE_HS
                       : !strcmp(optarg, "scale") ? MODE_SCALE
                       : !strcmp(optarg, "pace") ? MODE_PACE : MODE_IDLE; break;
        case 'i': for (char *t = strtok(optarg, ","); t && npids < 64; t = strtok(NULL, ",")) {
                      pids[npids] = atoi(t);
                      if (clock_getcpuclockid(pids[npids], &clocks[npids]) == 0) npids++;
                  } break;
        default: return 2;
    }
    if (!port || !pf) { fprintf(stderr, "wsload: --port and --payload are required\n"); return 2; }
    if (mode == MODE_PACE && rate <= 0) {
        fprintf(stderr, "wsload: --mode pace needs a --rate\n");
        return 2;
    }
    int slots = mode == MODE_HS ? conc : nconns;
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    if (rl.rlim_cur < (rlim_t)slots + 32) die("too few file descriptors (ulimit -Hn)");
    signal(SIGPIPE, SIG_IGN);
    if (tls) {
#ifdef WITH_TLS
        tls_ctx = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(tls_ctx, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(tls_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
        SSL_CTX_set_mode(tls_ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_options(tls_ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
        SSL_CTX_set_read_ahead(tls_ctx, 1);
        SSL_CTX_set_default_read_buffer_len(tls_ctx, 128 * 1024);
#else
        die("built without TLS");
#endif
    }
    load_payloads(pf);
    rbuf = malloc(RBUF);
    ep = epoll_create1(0);
    C = calloc(slots, sizeof *C);
    for (int i = 0; i < slots; i++) C[i].state = ST_FREE;
    if (mode == MODE_PACE) {
        pace_timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &timer_tag};
        if (pace_timer < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, pace_timer, &e)) die("timerfd");
    }
    int started = 0, maxpend = mode == MODE_HS || mode == MODE_SCALE ? conc : 32;
    /* scale */
    int step = 0, round = 0;        /* 0 open, 1 first echo, 2 rounds, 3 close; + 10: settling */
    cost_t cost[4] = {{0}};
    double rss[3] = {0}, tstep, tsettle = 0, cstep;
    double T0 = now();
    sample_t begin = {0}, end = {0};
    int phase = 0;  /* 0 opening, 1 warm-up, 2 measuring, 3 done */
    double tphase = 0, tsweep = T0, tjoined = 0;
    if (raw_mode) maxpend = nconns;
    struct epoll_event ev[512];
    tstep = now(); cstep = target_cpu(); rss[0] = target_rss_kib();
    while (phase < 3) {
        if (phase == 0 || mode == MODE_HS) {
            if (mode == MODE_HS) { while (started < slots) start_conn(&C[started++]); }
            else while (started < slots && started - n_open < maxpend) start_conn(&C[started++]);
        }
        int n = epoll_wait(ep, ev, 512, 20);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr == &timer_tag) {
                uint64_t expired;
                if (read(pace_timer, &expired, sizeof expired) < 0 && errno != EAGAIN) die("timer");
                continue;
            }
            conn_t *c = ev[i].data.ptr;
            if (c->state == ST_FREE) continue;
            if (c->state == ST_CONNECT) {
                int er = 0; socklen_t l = sizeof er;
                getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &er, &l);
                if (er) { errno = er; die("connect"); }
                if (tls) tls_step(c);
                else connected(c);
                continue;
            }
            if (c->state == ST_TLS) { tls_step(c); continue; }
            if (ev[i].events & EPOLLOUT) flush_conn(c);
            if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
        }
        if (mode == MODE_PACE && phase) pace_launch();
        double t = now();
        if (t - T0 > hard_limit) die("hard time limit");
        if (closes() && t - tsweep > 0.05) {
            double late = mode == MODE_HS ? 0.25 : 1.0;
            tsweep = t;
            for (int i = 0; i < slots; i++) {
                conn_t *c = &C[i];
                if ((c->state == ST_HALF || c->state == ST_CLOSING) && t - c->t_close > late) {
                    if (c->state == ST_HALF) late_closed++; else failures++;
                    closed_one(c);
                }
            }
        }
        if (mode == MODE_SCALE) {
            if (step < 10) {
                if (step == 0 ? n_open < nconns : sc_done < nconns) continue;
                if (step == 2 && ++round < rounds) { sc_round(0); continue; }
                /* whatever the server does after its last reply counts too */
                cost[step].secs = t - tstep;
                tsettle = t + 0.3;
                step += 10;
            } else if (t >= tsettle) {
                step -= 10;
                cost[step].cpu = target_cpu() - cstep;
                cost[step].n = (uint64_t)nconns * (step == 2 ? rounds : 1);
                if (step == 1) rss[1] = target_rss_kib();
                if (step == 3) { rss[2] = target_rss_kib(); break; }
                step++;
                tstep = now(); cstep = target_cpu();
                sc_round(step == 3);
            }
            continue;
        }
        if (phase == 0) {
            int go = mode == MODE_HS ? 1 : n_open == slots;
            if (go && mode == MODE_IDLE) {
                if (msgs < (uint64_t)slots) continue;
                printf("{\"idle\": %d}\n", n_open); fflush(stdout);
                char b[16];
                if (!fgets(b, sizeof b, stdin)) {}
                break;
            }
            /* A server may answer the handshake before it lets somebody into the room. */
            if (go && mode == MODE_BCAST && !tjoined) tjoined = t + 0.2;
            if (go && t >= tjoined) {
                phase = 1; tphase = t;
                if (mode != MODE_HS) fill();
            }
        } else if (phase == 1 && t - tphase >= warmup && stopped()) {
            begin = sample();
            phase = 2;
            count_from = begin.at;
            count_until = mode == MODE_PACE ? begin.at + secs : 1e300;
            if (drain) fill();
        } else if (phase == 2 && mode == MODE_PACE) {
            /* All that was due has gone out; the replies to it count, too. */
            if (t - count_until > 2.0) die("it did not keep up with the rate");
            if (t < count_until || pace_answered < pace_sent) continue;
            end = sample();
            phase = 3;
        } else if (phase == 2 && t - begin.at >= secs && stopped() && enough(&begin)) {
            end = sample();
            running = 0;
            phase = 3;
        }
    }
    if (mode == MODE_SCALE) print_phases(cost, rss);
    else if (mode != MODE_IDLE) print_difference(&begin, &end);
    return 0;
}
