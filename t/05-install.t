#!/usr/bin/perl
# make install puts everything where it belongs, the installed program works from there, and make uninstall
# takes all of it away but what the administrator has made.
#
# It configures for a prefix of its own, and takes the objects that are there already: what depends on the
# prefix is compiled anew.
use strict;
use warnings;
use Cwd 'abs_path';
use File::Find ();
use Test::More;
use SmtpSink;
use TestProxy;
use TestUtil;

plan skip_all => 'installs its own program' if $ENV{POSTERN_TEST_ADDR} || $ENV{POSTERN_WRAP} || $ENV{POSTERN};

# Of a make that runs us.
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES DESTDIR)};
my $dir = temp_dir();
my ($src, $from, $build, $prefix) = (abs_path(srcdir()), abs_path(builddir()), "$dir/build", "$dir/p");

sub run
{
	my ($command) = @_;

	system("cd '$build' && $command >>'$dir/log' 2>&1") == 0 or return 0;
	return 1;
}

sub diag_log { diag(substr(read_file("$dir/log") // '', -3000)); return }

# Regular files below a folder, by their names from there.
sub files
{
	my ($top) = @_;
	my @found;

	File::Find::find({ no_chdir => 1, wanted => sub { push @found, s{^\Q$top\E/}{}r if -f } }, $top) if -d $top;
	return sort @found;
}

sub folders
{
	my ($top) = @_;
	my @found;

	File::Find::find({ no_chdir => 1, wanted => sub { push @found, $File::Find::name if -d } }, $top);
	return @found;
}

sub mode { return sprintf '%04o', (stat $_[0])[2] & 07777 }

# ---- what belongs where ----------------------------------------------------------------------

# Documents and what lies in contrib/ keep their folders.
my @documents = (qw(HACKING.md LICENSE NEWS README.md), grep { m{^(?:doc|contrib)/} } map { my $d = $_; map { "$d/$_" } files("$src/$d") } qw(doc contrib));
my @elsewhere = grep { m{^contrib/(?:demo$|.*\.in$|systemd/(?:sysusers|tmpfiles)\.d/)} || /~$/ } @documents;
my %elsewhere = map { $_ => 1 } @elsewhere;
my @expected = sort qw(
	sbin/postern libexec/postern/postern-helper etc/postern/postern.conf.example
	share/man/man8/postern.8 share/man/man5/postern.conf.5 share/man/man7/postern-filters.7
	lib/systemd/system/postern.service lib/sysusers.d/postern.conf lib/tmpfiles.d/postern.conf
    ), map { "share/doc/postern/$_" } grep { !$elsewhere{$_} } @documents;

# ---- build for another prefix ----------------------------------------------------------------

mkdir $build or die "mkdir $build: $!";
# What config.status prints is quoted for the shell.
my $arguments = `'$from/config.status' --config`;
chomp $arguments;
ok(run("eval '$src/configure' " . sh_quote("$arguments --srcdir=$src --prefix=$prefix --sysconfdir=$prefix/etc")), 'configure with another prefix')
    or diag_log();
system("cd '$from' && find base config net mail smtp spool work filters proxy spawn helper \\( -name '*.o' -o -name .dirstamp \\) | tar -cT - | tar -xC '$build'") == 0
    or die 'copy of the objects';
unlink "$build/proxy/main.o", "$build/proxy/helper_path.o";
ok(run('make -s all'), 'make') or diag_log();

sub sh_quote { my ($text) = @_; return "'" . $text =~ s/'/'\\''/gr . "'" }

# ---- into a folder of its own ----------------------------------------------------------------

subtest 'make install DESTDIR=' => sub {
	my $root = "$dir/root";

	ok(run("umask 022; make -s install DESTDIR=$root"), 'it installs') or diag_log();
	is_deeply([files("$root$prefix")], \@expected, 'all files, and no other');
	is(join(' ', files($root)), join(' ', map { substr("$prefix/$_", 1) } @expected), 'nothing lies beside the prefix');
	ok(!-e "$prefix/sbin", 'nor in it outside of DESTDIR');
	is(mode("$root$prefix/$_"), '0755', "$_ can be run") for qw(sbin/postern libexec/postern/postern-helper);
	is(mode("$root$prefix/$_"), '0644', "$_ can be read") for grep { !m{^(?:sbin|libexec)/} } @expected;
	my $example = "$root$prefix/etc/postern/postern.conf.example";
	is(read_file($example), scalar `'$from/postern' -T default`, 'the example file is what the program prints');
	is(scalar `'$from/postern' -T -c '$example' 2>&1 >/dev/null`, '', 'and can be used as it is');
	ok(!-e "$root$prefix/etc/postern/postern.conf", 'there is no postern.conf yet');

	write_file("$root$prefix/etc/postern/postern.conf", "mine\n");
	ok(run("make -s install DESTDIR=$root"), 'it installs over itself') or diag_log();
	is(read_file("$root$prefix/etc/postern/postern.conf"), "mine\n", 'and leaves the postern.conf that is there');
	ok(run("make -s uninstall DESTDIR=$root"), 'make uninstall') or diag_log();
	is(join(' ', files($root)), substr("$prefix/etc/postern/postern.conf", 1), 'leaves the configuration, and nothing else');
	my @ours = grep { m{/postern$} } folders($root);
	is("@ours", "$root$prefix/etc/postern", 'nor a folder of ours without anything in it');
};

# ---- and used from there ---------------------------------------------------------------------

subtest 'the installed program' => sub {
	ok(run('umask 022; make -s install'), 'make install') or diag_log();
	my $unit = read_file("$prefix/lib/systemd/system/postern.service");
	my ($exec) = $unit =~ /^ExecStart=(.*)$/m;
	is($exec, "$prefix/sbin/postern -F -c $prefix/etc/postern/postern.conf", 'is what the unit starts');
	unlike($unit, qr/\@\w+\@/, 'and all places are filled in');

	my $sink = SmtpSink->start;
	my $user = is_root() ? "user nobody\n" : '';
	mkdir "$dir/spool", 0700;
	chown((getpwnam 'nobody')[2, 3], "$dir/spool") if is_root();
	write_file("$prefix/etc/postern/postern.conf", <<"CONF", 0644);
${user}workers 1
spool { directory $dir/spool }
dummy slow { wait 300ms; helper yes }
default_chain slow
listener front { listen 127.0.0.1:0; backend inner }
backend inner { hosts @{[ $sink->addr ]} }
CONF
	like(scalar `'$prefix/sbin/postern' -h`, qr{^without -c the FILE is \Q$prefix\E/etc/postern/postern\.conf$}m,
		'reads the configuration below its prefix');
	is(scalar `'$prefix/sbin/postern' -t`, "$prefix/etc/postern/postern.conf: the configuration is good\n", 'and finds it good');

	my $pid = start_process("$dir/run.log", "$prefix/sbin/postern", '-f');
	my ($addr) = wait_until { (read_file("$dir/run.log") // '') =~ / listen .*address=(\S+)/ ? $1 : undef };
	ok($addr, 'it starts') or diag(read_file("$dir/run.log"));
	my $c = SmtpClient->connect($addr);
	$c->ehlo;
	$c->mail('a@example.net');
	$c->rcpt('b@example.org');
	$c->data;
	$c->send("Subject: one\r\n\r\none\r\n.\r\n");
	my $helper = wait_until { (grep { defined && m{/postern-helper$} } map { readlink "/proc/$_/exe" } split ' ', `pgrep -s $pid`)[0] };
	is($helper, "$prefix/libexec/postern/postern-helper", 'it starts its helper from below its prefix');
	is($c->read_reply, 250, 'and a message passes through');
	is($sink->count, 1, 'to the back-end');
	is(stop_process($pid), 0, 'it stops');

	write_file("$dir/spool/kept", "data\n");
	write_file("$prefix/share/doc/postern/mine", "notes\n");
	ok(run('make -s uninstall'), 'make uninstall') or diag_log();
	is(join(' ', files($prefix)), 'etc/postern/postern.conf share/doc/postern/mine', 'leaves what others have put there');
	is(read_file("$dir/spool/kept"), "data\n", 'and the spool');
};

done_testing;
