package ai.dsopt;

import java.io.IOException;
import java.io.InputStream;
import java.lang.module.ModuleDescriptor;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Finds and loads the native library, once: from this jar, which it unpacks into a folder of the system's
 * folder for temporary files that only the user can enter, or from {@code java.library.path}.
 */
final class NativeLibrary {
  private static final String NAME = "dsopt_java";
  private static final Set<PosixFilePermission> OWNER_ONLY = PosixFilePermissions.fromString("rwx------");

  private static boolean loaded;

  private NativeLibrary() {}

  /** Throws UnsatisfiedLinkError, with a message that says what was tried. */
  static synchronized void load() {
    if (loaded) {
      return;
    }
    String platform = platform();
    try {
      byte[] index = resource("/native/" + platform + "/files");
      if (index == null) {
        System.loadLibrary(NAME);
      } else {
        System.load(unpack("/native/" + platform + "/", index).resolve(System.mapLibraryName(NAME)).toString());
      }
    } catch (IOException failure) {
      throw failed("unpacking the native library of the jar into " + temporary() + " failed", failure);
    } catch (UnsatisfiedLinkError failure) {
      throw failed(
          "no native library of dsopt for " + platform + " could be loaded from the jar or java.library.path",
          failure);
    }
    loaded = true;
  }

  private static UnsatisfiedLinkError failed(String what, Throwable cause) {
    UnsatisfiedLinkError error = new UnsatisfiedLinkError(what + ": " + cause.getMessage());
    error.initCause(cause);
    return error;
  }

  private static String platform() {
    String system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String machine = System.getProperty("os.arch");
    return (system.startsWith("linux") ? "linux" : system.replace(' ', '-')) + "-"
        + (machine.equals("amd64") || machine.equals("x86_64") ? "x64" : machine);
  }

  private static Path temporary() {
    return Path.of(System.getProperty("java.io.tmpdir")).toAbsolutePath();
  }

  /** index: a line with SHA-256 and name of each file. The folder's name tells version and contents. */
  private static Path unpack(String from, byte[] index) throws IOException {
    Map<String, String> hashes = new LinkedHashMap<>();
    for (String line : new String(index, StandardCharsets.UTF_8).lines().toList()) {
      hashes.put(line.substring(line.indexOf(' ') + 1).strip(), line.substring(0, line.indexOf(' ')));
    }
    String name = "dsopt-" + version() + "-" + sha256(index).substring(0, 16) + "-" + owner();
    Path folder = temporary().resolve(name);
    if (isGood(folder, hashes)) {
      return folder;
    }
    Path mine =
        Files.createTempDirectory(temporary(), name + ".", PosixFilePermissions.asFileAttribute(OWNER_ONLY));
    for (String file : hashes.keySet()) {
      Files.write(mine.resolve(file), resource(from + file));
    }
    try {
      Files.move(mine, folder, StandardCopyOption.ATOMIC_MOVE);
      return folder;
    } catch (FileSystemException taken) { // by a process that started just now, or worse
      if (isGood(folder, hashes)) {
        delete(mine);
        return folder;
      }
      java.lang.Runtime.getRuntime().addShutdownHook(new Thread(() -> delete(mine)));
      return mine;
    }
  }

  /** A folder of this user, closed to others, with exactly these contents. */
  private static boolean isGood(Path folder, Map<String, String> hashes) {
    try {
      if (!Files.isDirectory(folder, LinkOption.NOFOLLOW_LINKS)
          || !Files.getPosixFilePermissions(folder, LinkOption.NOFOLLOW_LINKS).equals(OWNER_ONLY)
          || !Files.getOwner(folder, LinkOption.NOFOLLOW_LINKS).equals(Files.getOwner(Path.of("/proc/self")))) {
        return false;
      }
      for (Map.Entry<String, String> file : hashes.entrySet()) {
        if (!sha256(Files.readAllBytes(folder.resolve(file.getKey()))).equals(file.getValue())) {
          return false;
        }
      }
      return true;
    } catch (IOException | UnsupportedOperationException unreadable) {
      return false;
    }
  }

  private static void delete(Path folder) {
    try (java.util.stream.Stream<Path> files = Files.list(folder)) {
      for (Path file : files.toList()) {
        Files.delete(file);
      }
      Files.delete(folder);
    } catch (IOException leftBehind) {
      // A folder for temporary files is cleaned by the system.
    }
  }

  private static String owner() {
    return System.getProperty("user.name").replaceAll("[^A-Za-z0-9_-]", "_");
  }

  private static String version() {
    ModuleDescriptor module = NativeLibrary.class.getModule().getDescriptor();
    String ofModule = module != null ? module.rawVersion().orElse(null) : null;
    String ofJar = NativeLibrary.class.getPackage().getImplementationVersion();
    return ofModule != null ? ofModule : ofJar != null ? ofJar : "build";
  }

  /** Null: this program's jar or folder has no such file. */
  private static byte[] resource(String name) throws IOException {
    try (InputStream in = NativeLibrary.class.getResourceAsStream(name)) {
      return in == null ? null : in.readAllBytes();
    }
  }

  private static String sha256(byte[] bytes) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e); // every Java has it
    }
  }
}
